;; Spends its time in bulk operations, which are interrupted in their middle. (GHSA-2hw9-mc66-jc2q)
(func $route (param i32) (result i32)
  (drop (memory.grow (i32.const 128)))
  (loop $again
    (memory.fill (i32.const 65536) (i32.const 165) (i32.const 8388608))
    (memory.copy (i32.const 65536) (i32.const 131072) (i32.const 4194304))
    (br $again))
  unreachable)
