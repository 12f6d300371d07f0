"""The command line: arguments and printing. Commands import what they need when they run, to keep `--help` fast."""

from __future__ import annotations

from heliograph.cli.main import main

__all__ = ["main"]
