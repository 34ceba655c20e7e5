;; Answers with a list at an odd address.
(func $route (param i32) (result i32)
  (call $decide (i32.const 512) (i32.const 7) (i32.const 4097) (i32.const 4) (i32.const 528) (i32.const 8)))
