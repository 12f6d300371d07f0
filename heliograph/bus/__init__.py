"""The bus: topics, partitions, groups. `base` is the seam; `open` chooses an implementation by URL."""
