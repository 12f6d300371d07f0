"""Sinks that write objects: of events (kind `object`) and of execution records (delivery settings)."""
