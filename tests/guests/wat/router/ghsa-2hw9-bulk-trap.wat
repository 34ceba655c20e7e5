;; no snapshot
;; Ends bulk operations beyond the end: of memory, of a table. (GHSA-2hw9-mc66-jc2q)
(table $table 10 funcref)
(func $route (param i32) (result i32)
  (table.fill $table (i32.const 5) (ref.null func) (i32.const 5))
  (table.copy (i32.const 0) (i32.const 5) (i32.const 5))
  (table.fill $table (i32.const 5) (ref.null func) (i32.const 100))
  (call $answer (i32.const 544) (i32.const 7)))
