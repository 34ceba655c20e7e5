;; Answers with a name that is no text.
(data (i32.const 600) "\ff\fe\80\c0")
(func $route (param i32) (result i32)
  (call $decide (i32.const 600) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 528) (i32.const 8)))
