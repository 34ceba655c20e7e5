;; Uses a handle that nobody gave it.
(import "wasi:io/streams@0.2.0" "[method]output-stream.check-write" (func $check (param i32 i32)))
(func $route (param i32) (result i32)
  (call $check (i32.const 1) (i32.const 2048))
  (call $answer (i32.const 544) (i32.const 7)))
