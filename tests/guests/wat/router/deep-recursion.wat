;; Calls itself for ever.
(func $deep (param i32) (result i32) (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
(func $route (param i32) (result i32) (call $deep (local.get 0)))
