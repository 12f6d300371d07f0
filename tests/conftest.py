"""Settings of all tests."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# Tests started in the background by a shell ignore SIGINT, and so would every command that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The time limits of hypothesis would fail examples on slow machines.
settings.register_profile("timeless", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("timeless")
