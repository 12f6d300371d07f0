"""Writes objects: events by kind `object`, execution records by delivery settings."""
