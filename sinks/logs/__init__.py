"""Sinks that write to the local log store: of events (kind `logs`) and of execution records (delivery settings)."""
