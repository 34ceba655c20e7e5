;; no snapshot
;; Grows, fills and reads a table with 64-bit places, far beyond its end. (GHSA-m9w2-8782-2946, GHSA-q49f-xg75-m9xw, GHSA-f984-pcp8-v2p7)
(table $table i64 10 funcref)
(func $route (param i32) (result i32)
  (drop (table.grow $table (ref.null func) (i64.const 2)))
  (table.fill $table (i64.const 0) (ref.null func) (i64.const 12))
  (drop (table.get $table (i64.const 0x1_0000_0001)))
  (call $answer (i32.const 544) (i32.const 7)))
