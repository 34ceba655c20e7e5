;; A table larger than all addresses. (GHSA-p8xm-42r7-89xg)
(component
  (core module $m (table i64 0xffff_ffff_ffff_ffff funcref))
  (core instance (instantiate $m)))
