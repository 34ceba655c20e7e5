;; no snapshot
;; Grows its table, and wants more than there is.
(table $table 1 funcref)
(func $route (param i32) (result i32)
  (loop $more
    (br_if $more (i32.ne (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1))))
  unreachable)
