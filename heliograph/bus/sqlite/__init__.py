"""The embedded bus: one SQLite file for several processes of one host."""

from heliograph.bus.sqlite.bus import SqliteBus

__all__ = ["SqliteBus"]
