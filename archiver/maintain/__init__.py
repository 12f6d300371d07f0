"""Maintains an archive: compaction, retention, erasure, new epochs."""
