"""The bus on Apache Kafka: `KafkaBus` over a small seam (`client.py`) with two client libraries behind it."""

from heliograph.bus.kafka.bus import KafkaBus as KafkaBus
