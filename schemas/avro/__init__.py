"""Avro schemas of what Heliograph stores, published for other readers."""
