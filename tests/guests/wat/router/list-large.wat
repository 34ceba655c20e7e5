;; Answers with a list of empty things: small here, larger in the host.
(func $route (param i32) (result i32)
  (drop (memory.grow (i32.const 128)))
  (call $decide (i32.const 512) (i32.const 7)
    (i32.const 65536) (i32.div_u (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 65536)) (i32.const 12))
    (i32.const 528) (i32.const 8)))
