;; no snapshot
;; Never ends its start function: before any export is called.
(func $begin (loop $again (br $again)))
(start $begin)
