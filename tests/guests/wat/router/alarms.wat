;; Sets alarms, and forgets them.
(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $alarm (param i64) (result i32)))
(func $route (param i32) (result i32)
  (loop $again (drop (call $alarm (i64.const 1000000000000))) (br $again))
  unreachable)
