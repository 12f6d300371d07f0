"""Writes to the local log store: events by kind `logs`, execution records by delivery settings."""
