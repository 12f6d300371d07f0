"""`python -m tests.services`: obtains every service in advance, since tests have time limits."""

from __future__ import annotations

import os
import sys
import time

from tests.services import kafka, minio, seaweedfs
from tests.services.obtain import Unavailable

SERVICES = {"Apache Kafka": kafka.obtain, "MinIO": minio.obtain, "SeaweedFS": seaweedfs.obtain}


def main() -> int:
    """Obtains every service that this machine can run. Returns 1 if a service is missing and services are required."""
    missing = False
    for name, obtain in SERVICES.items():
        began = time.monotonic()
        try:
            obtain()
        except Unavailable as error:
            missing = True
            sys.stdout.write(f"{name}: not available, its tests are skipped: {error}\n")
        else:
            sys.stdout.write(f"{name}: obtained after {time.monotonic() - began:.0f} s\n")
        sys.stdout.flush()
    return 1 if missing and os.environ.get("HELIOGRAPH_REQUIRE_SERVICES") == "1" else 0


if __name__ == "__main__":
    sys.exit(main())
