;; Gives a handle back twice.
(import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
(import "wasi:io/streams@0.2.0" "[resource-drop]output-stream" (func $drop (param i32)))
(func $route (param i32) (result i32)
  (local $out i32)
  (local.set $out (call $stdout))
  (call $drop (local.get $out))
  (call $drop (local.get $out))
  (call $answer (i32.const 544) (i32.const 7)))
