;; Makes resources of its own, and gives none back.
(component
  (type $thing (resource (rep i32)))
  (core func $new (canon resource.new $thing))
  (core module $m
    (import "" "new" (func $new (param i32) (result i32)))
    (func $begin (loop $again (drop (call $new (i32.const 1))) (br $again)))
    (start $begin))
  (core instance (instantiate $m (with "" (instance (export "new" (func $new)))))))
