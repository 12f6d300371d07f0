"""Topics become files: segments, the chain that proves them, queries that read them."""
