;; Passes flags with more bits than they have names. (GHSA-m758-wjhj-p3jq)
(component
  (component $from
    (type $bits (flags "a" "b"))
    (export $named "bits" (type $bits))
    (core module $m (func (export "bits") (result i32) (i32.const -1)))
    (core instance $m (instantiate $m))
    (func (export "get") (result $named) (canon lift (core func $m "bits"))))
  (component $to
    (import "from" (instance $from
      (type $bits (flags "a" "b"))
      (export "bits" (type $named (eq $bits)))
      (export "get" (func (result $named)))))
    (core func $get (canon lower (func $from "get")))
    (core module $m
      (import "" "get" (func $get (result i32)))
      (func $begin (if (i32.gt_u (call $get) (i32.const 3)) (then unreachable)))
      (start $begin))
    (core instance (instantiate $m (with "" (instance (export "get" (func $get)))))))
  (instance $from (instantiate $from))
  (instance (instantiate $to (with "from" (instance $from)))))
