;; Never ends its init.
(func (export "init") (result i32) (loop $again (br $again)) unreachable)
