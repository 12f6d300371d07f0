"""Object stores. `base` is the seam; `open` chooses an implementation by URL."""
