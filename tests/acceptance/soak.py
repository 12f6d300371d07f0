"""`make soak WHERE=cluster`: starts a broker and an S3 server, and runs `heliograph chaos` on them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from tests.services import seaweedfs
from tests.services.kafka import running
from tests.services.s3 import ENVIRONMENT


@contextmanager
def cluster() -> Generator[Sequence[str]]:
    """Starts broker and S3 server; gives the options of `heliograph chaos` for them. The secrets are in
    `tests.services.s3.ENVIRONMENT`."""
    with running() as broker:
        store = seaweedfs.run()
        try:
            yield (
                *("--bus", f"kafka://{broker.address}", "--broker-pid", str(broker.process.pid)),
                *("--archive", store.url(store.bucket())),
            )
        finally:
            store.stop()


def main() -> int:
    """Runs chaos with the command line's options; returns its exit status."""
    with cluster() as options:
        command = [sys.executable, "-P", "-m", "heliograph", "chaos", *options, *sys.argv[1:]]
        return subprocess.run(command, env={**os.environ, **ENVIRONMENT}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
