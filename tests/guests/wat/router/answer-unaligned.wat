;; Says that its answer lies at an odd address.
(func $route (param i32) (result i32) (i32.const 1025))
