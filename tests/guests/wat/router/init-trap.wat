;; Traps in init.
(func (export "init") (result i32) unreachable)
