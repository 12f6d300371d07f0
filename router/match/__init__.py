"""Matching of events and subscriptions, without I/O. Modules for patterns and groups will be added here."""
