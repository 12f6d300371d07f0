"""All metrics with their names and labels. Roles count them; `heliograph run --metrics` serves them."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

APPENDED = Gauge("heliograph_appended", "Records ever appended to a topic.", ["topic"])
REJECTED = Counter(
    "heliograph_rejected_total", "Inputs that are not notifications, kept in `rejects`.", ["where"]
)
ROUTED = Counter("heliograph_routed_total", "Events that the router has processed.", ["topic"])
DUPLICATES = Counter(
    "heliograph_duplicates_total", "Events that repeat an earlier event and are not routed.", ["topic"]
)
MATCHED = Counter("heliograph_matched_total", "Events that matched a subscription.", ["subscription"])
ATTEMPTS = Counter("heliograph_attempts_total", "Attempts by outcome.", ["target", "outcome"])
ATTEMPT_SECONDS = Histogram("heliograph_attempt_seconds", "Duration of attempts in seconds.", ["target"])
VERDICTS = Counter("heliograph_verdicts_total", "Deliveries that ended.", ["target", "state"])
RETRIED = Counter(
    "heliograph_retried_total",
    "Deliveries moved to the timing wheel, or parked, after an attempt.",
    ["target"],
)
DEFERRED = Counter(
    "heliograph_deferred_total",
    "Deliveries moved to the timing wheel, or parked, without an attempt.",
    ["target"],
)
IN_FLIGHT = Gauge("heliograph_in_flight", "Deliveries in a lane that have not ended.", ["target"])
TARGET_STATE = Gauge(
    "heliograph_target_state",
    "State of a target as this process sees it: 0 active, 1 throttled, 2 open, 3 suspended.",
    ["target"],
)
ARCHIVED = Counter("heliograph_archived_total", "Records in segments that were stored.", ["topic"])
SEGMENTS = Counter("heliograph_segments_total", "Segments stored.", ["topic"])
GAPS = Counter(
    "heliograph_gap_records_total",
    "Offsets that a topic no longer had when a role came to read them.",
    ["role", "topic"],
)
LAG = Gauge("heliograph_lag", "Records between a role's cursors and the ends of its topics.", ["role"])
LOOP_AGE = Gauge("heliograph_loop_age_seconds", "Seconds since the last step of a role.", ["role"])
