"""Object stores. `base` is the seam; `open` chooses by URL."""
