"""The product under faults of its own making, on a scratch deployment, and the proof that nothing was lost."""
