;; Fills all memory there is in init, and is content: whoever reads it for the snapshot has no room left.
(func (export "init") (result i32)
  (local $at i32)
  (loop $more
    (local.set $at (memory.grow (i32.const 1)))
    (if (i32.ne (local.get $at) (i32.const -1)) (then
      (memory.fill (i32.shl (local.get $at) (i32.const 16)) (i32.const 165) (i32.const 65536))
      (br $more))))
  (i32.const 256))
