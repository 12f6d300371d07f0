"""All metrics with their names and labels. Roles count them; `heliograph run --metrics` serves them."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

APPENDED = Gauge("heliograph_appended", "Records ever appended to a topic.", ["topic"])
REJECTED = Counter(
    "heliograph_rejected_total", "Inputs that are not notifications, kept in `rejects`.", ["where"]
)
ROUTED = Counter("heliograph_routed_total", "Events that the router has read and decided.", ["topic"])
DUPLICATES = Counter(
    "heliograph_duplicates_total", "Events that repeat one before them and are not routed.", ["topic"]
)
MATCHED = Counter("heliograph_matched_total", "Events that a subscription wanted.", ["subscription"])
ATTEMPTS = Counter("heliograph_attempts_total", "Attempts by outcome.", ["target", "outcome"])
ATTEMPT_SECONDS = Histogram("heliograph_attempt_seconds", "Duration of attempts in seconds.", ["target"])
VERDICTS = Counter("heliograph_verdicts_total", "Deliveries that ended.", ["target", "state"])
RETRIED = Counter("heliograph_retried_total", "Deliveries put on the wheel after an attempt.", ["target"])
DEFERRED = Counter("heliograph_deferred_total", "Deliveries put on the wheel without an attempt.", ["target"])
IN_FLIGHT = Gauge("heliograph_in_flight", "Deliveries taken by a lane and not ended.", ["target"])
TARGET_STATE = Gauge(
    "heliograph_target_state",
    "0 active, 1 throttled, 2 open, 3 suspended, as this process sees it.",
    ["target"],
)
ARCHIVED = Counter("heliograph_archived_total", "Records in segments that were stored.", ["topic"])
SEGMENTS = Counter("heliograph_segments_total", "Segments stored.", ["topic"])
GAPS = Counter(
    "heliograph_gap_records_total",
    "Offsets that a role asked for and the topic no longer had.",
    ["role", "topic"],
)
LAG = Gauge("heliograph_lag", "Records between a role's cursors and the ends of its topics.", ["role"])
LOOP_AGE = Gauge("heliograph_loop_age_seconds", "Seconds since the last step of a role.", ["role"])
