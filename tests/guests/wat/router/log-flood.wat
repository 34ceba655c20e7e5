;; Writes lines for ever.
(import "chela:plugin/log@0.1.0" "write" (func $write (param i32 i32 i32)))
(func $route (param i32) (result i32)
  (loop $again (call $write (i32.const 3) (i32.const 65536) (i32.const 1000)) (br $again))
  unreachable)
