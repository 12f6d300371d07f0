"""Benchmarks, run by `make bench`. Each also measures the same work without Heliograph, and prints the ratio."""
