;; Asks for requests of its own, with fields without end. (GHSA-243v-98vx-264h)
(component
  (import "wasi:http/types@0.2.0" (instance (export "fields" (type (sub resource)))))
  (core module $m (func (export "f")))
  (core instance $m (instantiate $m))
  (func $f (canon lift (core func $m "f")))
  (instance $routing (export "route" (func $f)))
  (export "chela:plugin/routing@0.1.0" (instance $routing))
  (export "init" (func $f)))
