"""Runs the benchmarks that are named as arguments, or all of them."""

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
        "names", nargs="*", metavar="NAME", help=f"Benchmark to run: {', '.join(BENCHMARKS)}; default all"
    )
    for name in parser.parse_args().names or BENCHMARKS:
        BENCHMARKS[name]()


if __name__ == "__main__":
    main()
