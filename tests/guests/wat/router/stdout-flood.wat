;; Prints for ever.
(import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
(import "wasi:io/streams@0.2.0" "[method]output-stream.check-write" (func $check (param i32 i32)))
(import "wasi:io/streams@0.2.0" "[method]output-stream.write" (func $write (param i32 i32 i32 i32)))
(func $route (param i32) (result i32)
  (local $out i32)
  (local.set $out (call $stdout))
  (loop $again
    (call $check (local.get $out) (i32.const 2048))
    (call $write (local.get $out) (i32.const 8192) (i32.const 4096) (i32.const 2048))
    (br $again))
  unreachable)
