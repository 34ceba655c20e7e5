;; Calls a function of another type through its table.
(type $other (func (param i64 i64 i64) (result i64)))
(table 1 funcref)
(elem (i32.const 0) $route)
(func $route (param i32) (result i32)
  (drop (call_indirect (type $other) (i64.const 1) (i64.const 2) (i64.const 3) (i32.const 0)))
  (i32.const 0))
