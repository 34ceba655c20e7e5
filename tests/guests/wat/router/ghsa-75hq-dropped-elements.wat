;; no snapshot
;; Fills a table from a segment that it has dropped. (GHSA-75hq-h6g9-h4q5)
(table $table 4 externref)
(elem $segment externref (ref.null extern))
(func $route (param i32) (result i32)
  (elem.drop $segment)
  (table.init $table $segment (i32.const 0) (i32.const 0) (i32.const 0))
  (table.init $table $segment (i32.const 0) (i32.const 0) (i32.const 1))
  (call $answer (i32.const 544) (i32.const 7)))
