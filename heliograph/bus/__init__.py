"""The log: topics, partitions, groups. `base` is the seam; `open` chooses by URL."""
