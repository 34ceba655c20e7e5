;; Asks the host for its configuration, again and again.
(import "chela:plugin/config@0.1.0" "json" (func $json (param i32)))
(func $route (param i32) (result i32)
  (loop $again (call $json (i32.const 2048)) (global.set $top (i32.const 8192)) (br $again))
  unreachable)
