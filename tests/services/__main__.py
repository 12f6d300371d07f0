"""`python -m tests.services`: obtain every real service before the tests that need it, whose time is bounded."""

from __future__ import annotations

import os
import sys
import time

from tests.services import kafka, minio, seaweedfs
from tests.services.obtain import Unavailable

SERVICES = {"Apache Kafka": kafka.obtain, "MinIO": minio.obtain, "SeaweedFS": seaweedfs.obtain}


def main() -> int:
    """Obtain all that can be had here. Exit status 1 if one cannot, where services are required."""
    missing = False
    for name, obtain in SERVICES.items():
        began = time.monotonic()
        try:
            obtain()
        except Unavailable as error:
            missing = True
            sys.stdout.write(f"{name}: cannot be had, its tests are skipped: {error}\n")
        else:
            sys.stdout.write(f"{name}: there, after {time.monotonic() - began:.0f} s\n")
        sys.stdout.flush()
    return 1 if missing and os.environ.get("HELIOGRAPH_REQUIRE_SERVICES") == "1" else 0


if __name__ == "__main__":
    sys.exit(main())
