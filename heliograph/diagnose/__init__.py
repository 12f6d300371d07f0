"""Checks of a deployment that name the remedy for each problem, and the permissions that it needs."""
