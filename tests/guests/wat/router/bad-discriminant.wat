;; Answers neither well nor badly: the result's discriminant is 7.
(func $route (param i32) (result i32)
  (local $said i32)
  (local.set $said (call $answer (i32.const 528) (i32.const 8)))
  (i32.store8 (local.get $said) (i32.const 7))
  (local.get $said))
