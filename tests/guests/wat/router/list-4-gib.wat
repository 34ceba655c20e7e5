;; Answers with a list that is longer than any memory.
(func $route (param i32) (result i32)
  (call $decide (i32.const 512) (i32.const 7) (i32.const 4096) (i32.const 0x15555555) (i32.const 528) (i32.const 8)))
