"""The delivery engine: lanes, retries, the wheel, parking, target states, verdicts and dead letters."""
