;; Is of no world of ours.
(component)
