;; Answers with a text of 8 MiB.
(func $route (param i32) (result i32)
  (drop (memory.grow (i32.const 128)))
  (call $answer (i32.const 65536) (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 65536))))
