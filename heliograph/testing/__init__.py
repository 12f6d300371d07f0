"""Public doubles for those who test against Heliograph."""
