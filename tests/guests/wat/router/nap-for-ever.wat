;; Sleeps a microsecond, again and again.
(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $alarm (param i64) (result i32)))
(import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
(import "wasi:io/poll@0.2.0" "[resource-drop]pollable" (func $drop (param i32)))
(func $route (param i32) (result i32)
  (local $alarm i32)
  (loop $again
    (local.set $alarm (call $alarm (i64.const 1000)))
    (call $block (local.get $alarm))
    (call $drop (local.get $alarm))
    (br $again))
  unreachable)
