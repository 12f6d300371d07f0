"""Real services, obtained, started and stopped by the tests."""
