"""Lanes, retry policy, the timing wheel, verdicts and dead letters."""
