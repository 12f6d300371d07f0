"""Real servers for tests, which obtain, start and stop them."""
