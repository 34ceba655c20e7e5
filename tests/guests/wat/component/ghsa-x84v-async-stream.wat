;; Streams of the component model, by which a guest sizes what the host keeps. (GHSA-x84v)
(component
  (type $stream (stream u8))
  (core func $new (canon stream.new $stream))
  (core module $m (import "" "new" (func $new (result i64))) (func $start (drop (call $new))) (start $start))
  (core instance (instantiate $m (with "" (instance (export "new" (func $new)))))))
