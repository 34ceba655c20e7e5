;; Uses an alarm as if it were a stream.
(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $alarm (param i64) (result i32)))
(import "wasi:io/streams@0.2.0" "[method]output-stream.check-write" (func $check (param i32 i32)))
(func $route (param i32) (result i32)
  (call $check (call $alarm (i64.const 1)) (i32.const 2048))
  (call $answer (i32.const 544) (i32.const 7)))
