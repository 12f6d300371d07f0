"""`make soak MINUTES=n SEED=n`: kills for as long as told; prints what was survived, stops at the first loss."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.acceptance.kills import survive

KILLS_A_ROUND = 10


def main() -> None:
    """Rounds of ten kills, each with a seed of its own and a fresh home."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    until = time.monotonic() + arguments.minutes * 60
    seed, kills, accepted, repeats = arguments.seed, 0, 0, 0
    while time.monotonic() < until or kills == 0:
        with tempfile.TemporaryDirectory() as folder:
            survived = survive(Path(folder) / "home", seed=seed, kills=KILLS_A_ROUND)
        kills, accepted, repeats = (
            kills + survived.kills,
            accepted + survived.accepted,
            repeats + survived.repeats,
        )
        sys.stdout.write(
            f"seed {seed}: {kills} kills, {accepted} accepted, 0 lost, {repeats} repeated callbacks\n"
        )
        sys.stdout.flush()
        seed += 1


if __name__ == "__main__":
    main()
