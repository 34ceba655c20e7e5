;; Says that its answer lies where no memory is.
(func $route (param i32) (result i32) (i32.const -16))
