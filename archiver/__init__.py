"""Archives topics as files: segments, the chain that proves them, and queries over them."""
