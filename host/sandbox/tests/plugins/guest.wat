;; A router by name only: `route` takes what to do as a number, and `init` takes it from the configuration {"do":N}.
(component
  (import "chela:plugin/config@0.1.0" (instance $config (export "json" (func (result string)))))
  (import "chela:plugin/models@0.1.0" (instance $models (export "ask" (func (param "n" u32) (result u32)))))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock (export "now" (func (result u64)))))
  (import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))
  (import "wasi:io/streams@0.2.0" (instance $streams (export "output-stream" (type (sub resource)))))
  (alias export $streams "output-stream" (type $stream))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $stream (type $out))
    (export "output-stream" (type $own (eq $out)))
    (export "get-stdout" (func (result (own $own))))))
  (core module $libc
    (memory (export "memory") 1)
    (global $top (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (global.get $top))
      (global.set $top (i32.and (i32.add (i32.add (local.get $at) (local.get 3)) (i32.const 7)) (i32.const -8)))
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  (core func $json (canon lower (func $config "json") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core func $ask (canon lower (func $models "ask")))
  (core func $now (canon lower (func $clock "now")))
  (core func $draw (canon lower (func $random "get-random-u64")))
  (core func $print (canon lower (func $stdout "get-stdout")))
  (core module $main
    (import "libc" "memory" (memory 1))
    (import "host" "json" (func $json (param i32)))
    (import "host" "ask" (func $ask (param i32) (result i32)))
    (import "host" "now" (func $now (result i64)))
    (import "host" "draw" (func $draw (result i64)))
    (import "host" "print" (func $print (result i32)))
    (global $count (mut i32) (i32.const 0))
    (table $table 1 funcref)
    (data (i32.const 64) "no such agent")
    (func $spin (loop $again (br $again)))
    (func $fill ;; takes all memory there is
      (loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))))
    (func $deep (param i32) (result i32) (i32.add (call $deep (local.get 0)) (i32.const 1)))
    (func (export "init") (result i32)
      (local $do i32)
      (call $json (i32.const 16))
      (local.set $do (i32.load8_u (i32.add (i32.load (i32.const 16)) (i32.const 6)))) ;; the N of {"do":N}
      (global.set $count (i32.const 1000))
      (if (i32.eq (local.get $do) (i32.const 49)) (then ;; 1: refuses its configuration
        (i32.store8 (i32.const 32) (i32.const 1))
        (i32.store (i32.const 36) (i32.const 64))
        (i32.store (i32.const 40) (i32.const 13))))
      (if (i32.eq (local.get $do) (i32.const 50)) (then unreachable))
      (if (i32.eq (local.get $do) (i32.const 51)) (then (call $spin)))
      (if (i32.eq (local.get $do) (i32.const 52)) (then (call $fill) unreachable))
      (if (i32.eq (local.get $do) (i32.const 53)) (then (drop (call $now))))
      (if (i32.eq (local.get $do) (i32.const 54)) (then (call $fill)))
      (if (i32.eq (local.get $do) (i32.const 55)) (then (drop (call $ask (i32.const 1)))))
      (if (i32.eq (local.get $do) (i32.const 56)) (then (drop (call $draw))))
      (if (i32.eq (local.get $do) (i32.const 34)) (then (drop (call $print)))) ;; a text: keeps stdout, as printing does
      (i32.const 32))
    (func (export "route") (param $do i32) (result i32)
      (if (i32.eq (local.get $do) (i32.const 1)) (then unreachable))
      (if (i32.eq (local.get $do) (i32.const 2)) (then (call $spin)))
      (if (i32.eq (local.get $do) (i32.const 3)) (then (call $fill) unreachable))
      (if (i32.eq (local.get $do) (i32.const 4)) (then (return (memory.grow (i32.const 3)))))
      (if (i32.eq (local.get $do) (i32.const 5)) (then
        (return (i32.add (i32.wrap_i64 (call $now)) (i32.wrap_i64 (call $draw))))))
      (if (i32.eq (local.get $do) (i32.const 6)) (then
        (return (i32.const 6)))) ;; a guest that is not snapshotted grows its table here
      (if (i32.eq (local.get $do) (i32.const 7)) (then (return (call $deep (i32.const 0)))))
      (if (i32.and (i32.ge_u (local.get $do) (i32.const 500)) (i32.lt_u (local.get $do) (i32.const 600))) (then
        (loop $more ;; so many handles above 500
          (if (i32.gt_u (local.get $do) (i32.const 500)) (then
            (drop (call $print))
            (local.set $do (i32.sub (local.get $do) (i32.const 1)))
            (br $more))))
        (return (i32.const 0))))
      (if (i32.ge_u (local.get $do) (i32.const 1000)) (then ;; asks once, and gives back what it is told
        (return (call $ask (local.get $do)))))
      (if (i32.ge_u (local.get $do) (i32.const 100)) (then ;; asks so many times above 100
        (loop $again
          (drop (call $ask (i32.const 0)))
          (local.set $do (i32.sub (local.get $do) (i32.const 1)))
          (br_if $again (i32.gt_u (local.get $do) (i32.const 100))))
        (return (i32.const 0))))
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      (global.get $count)))
  (core instance $main (instantiate $main
    (with "libc" (instance $libc))
    (with "host" (instance
      (export "json" (func $json)) (export "ask" (func $ask)) (export "now" (func $now)) (export "draw" (func $draw))
      (export "print" (func $print))))))
  (func $init (result (result (error string))) (canon lift (core func $main "init") (memory (core memory $libc "memory"))))
  (export "init" (func $init))
  (func $route (param "do" u32) (result u32) (canon lift (core func $main "route")))
  (instance $routing (export "route" (func $route)))
  (export "chela:plugin/routing@0.1.0" (instance $routing)))
