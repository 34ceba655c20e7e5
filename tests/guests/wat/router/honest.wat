;; Behaves: answers at once. Whoever is called after an attack is this one.
