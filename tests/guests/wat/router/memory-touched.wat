;; Takes all memory there is and writes into each page of it, and is content.
(func $route (param i32) (result i32)
  (local $at i32)
  (loop $more
    (local.set $at (memory.grow (i32.const 1)))
    (if (i32.ne (local.get $at) (i32.const -1)) (then
      (memory.fill (i32.shl (local.get $at) (i32.const 16)) (i32.const 165) (i32.const 65536))
      (br $more))))
  (call $answer (i32.const 528) (i32.const 8)))
