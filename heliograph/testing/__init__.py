"""Test doubles for programs that are tested against Heliograph."""
