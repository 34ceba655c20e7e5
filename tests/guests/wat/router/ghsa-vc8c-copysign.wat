;; Copies a sign onto the last number of its memory: no byte beyond it may be read. (GHSA-vc8c-j3xm-xj73)
(memory (export "memory") 1)
(func $route (param i32) (result i32)
  (loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
  (f64.store align=1 (i32.const 2048)
    (f64.copysign
      (f64.load align=1 (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 8)))
      (f64.const 0)))
  (call $answer (i32.const 528) (i32.const 8)))
