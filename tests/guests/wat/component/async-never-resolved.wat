;; A task that is never resolved.
(component
  (core module $m (func (export "run") (result i32) (i32.const 1))
    (func (export "again") (param i32 i32 i32) (result i32) (i32.const 1)))
  (core instance $m (instantiate $m))
  (func (export "run") async
    (canon lift (core func $m "run") async (callback (core func $m "again")))))
