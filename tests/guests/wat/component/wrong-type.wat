;; Exports the right names with other types.
(component
  (core module $m (func (export "f")))
  (core instance $m (instantiate $m))
  (func $f (canon lift (core func $m "f")))
  (instance $routing (export "route" (func $f)))
  (export "chela:plugin/routing@0.1.0" (instance $routing))
  (export "init" (func $f)))
