;; Answers with a text of 4 GiB that it does not have.
(func $route (param i32) (result i32) (call $answer (i32.const 528) (i32.const -1)))
