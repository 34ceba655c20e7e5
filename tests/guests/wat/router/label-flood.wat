;; Chooses an agent that is called what the person wrote: a new name each time.
(func $route (param i32) (result i32)
  (call $decide
    (i32.load offset=8 (local.get 0)) (i32.load offset=12 (local.get 0))
    (i32.const 0) (i32.const 0) (i32.const 528) (i32.const 8)))
