;; Behaves, and has prepared four megabytes in init.
(memory (export "memory") 66)
(func (export "init") (result i32)
  (local $at i32) (local $value i64)
  (local.set $at (i32.const 65536))
  (loop $more
    (local.set $value
      (i64.add (i64.mul (local.get $value) (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))
    (i64.store (local.get $at) (local.get $value))
    (local.set $at (i32.add (local.get $at) (i32.const 8)))
    (br_if $more (i32.lt_u (local.get $at) (i32.const 4259840))))
  (i32.const 256))
