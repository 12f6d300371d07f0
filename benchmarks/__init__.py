"""What the product costs, each figure beside the bare work of the same run. `make bench`."""
