;; Passes a text from one part of it to another, whose room for it moves to an odd address. (GHSA-jxhv-7h78-9775)
(component
  (component $to
    (core module $m
      (func (export "take") (param i32 i32))
      (func (export "realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
        (select (i32.const 2) (i32.const 3) (i32.eqz (local.get $old))))
      (memory (export "memory") 1))
    (core instance $m (instantiate $m))
    (func (export "take") (param "text" string)
      (canon lift (core func $m "take") (memory (core memory $m "memory")) (realloc (core func $m "realloc")) string-encoding=utf16)))
  (component $from
    (import "take" (func $take (param "text" string)))
    (core module $libc (memory (export "memory") 1) (data (i32.const 0) "\c3\a0\c3\a0"))
    (core instance $libc (instantiate $libc))
    (core func $take (canon lower (func $take) (memory (core memory $libc "memory")) string-encoding=utf8))
    (core module $m
      (import "" "take" (func $take (param i32 i32)))
      (func $begin (call $take (i32.const 0) (i32.const 4)))
      (start $begin))
    (core instance (instantiate $m (with "" (instance (export "take" (func $take)))))))
  (instance $to (instantiate $to))
  (instance (instantiate $from (with "take" (func $to "take")))))
