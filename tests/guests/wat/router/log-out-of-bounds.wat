;; Lets the host read a line where no memory is.
(import "chela:plugin/log@0.1.0" "write" (func $write (param i32 i32 i32)))
(func $route (param i32) (result i32)
  (call $write (i32.const 1) (i32.const 65536) (i32.const 0x7fffffff))
  (call $answer (i32.const 544) (i32.const 7)))
