"""The command line. Every command imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

from heliograph.cli.main import main

__all__ = ["main"]
