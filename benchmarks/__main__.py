"""`make bench`: runs all benchmarks or those named, and prints figures and their ratio to the bare work of the same run."""

from __future__ import annotations

import argparse

from benchmarks import callbacks, isolation, kafka, latency, router, s3, spine

BENCHMARKS = {
    "spine": spine.run,
    "latency": latency.run,
    "callbacks": callbacks.run,
    "isolation": isolation.run,
    "s3": s3.run,
    "kafka": kafka.run,
    "router": router.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all without one"
    )
    for name in parser.parse_args().names or BENCHMARKS:
        BENCHMARKS[name]()


if __name__ == "__main__":
    main()
