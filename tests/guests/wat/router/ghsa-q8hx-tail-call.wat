;; Leaves by a tail call into a host function that traps. (GHSA-q8hx-mm92-4wvg)
(import "chela:plugin/log@0.1.0" "write" (func $write (param i32 i32 i32)))
(func $leave (return_call $write (i32.const 99) (i32.const 528) (i32.const 8)))
(func $route (param i32) (result i32) (call $leave) (call $answer (i32.const 544) (i32.const 7)))
