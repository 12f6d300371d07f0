"""Matching of events and subscriptions, without I/O. Patterns and groups get modules here."""
