"""The log on Apache Kafka: `KafkaBus` over a small seam (`client.py`) with two clients behind it."""

from heliograph.bus.kafka.bus import KafkaBus as KafkaBus
