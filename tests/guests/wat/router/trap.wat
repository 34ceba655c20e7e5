;; Traps.
(func $route (param i32) (result i32) unreachable)
