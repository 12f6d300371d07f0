"""Routing of events into deliveries (`match`), and delivery to targets (`deliver`)."""
