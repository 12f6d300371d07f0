"""Changes an archive afterwards: compaction, retention, erasure, epochs."""
