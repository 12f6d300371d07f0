"""Measures the product, each figure beside the bare work of the same run. `make bench`."""
