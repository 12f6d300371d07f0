"""Reads segments and compacted days, verifies chains, answers SQL."""
