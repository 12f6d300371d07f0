"""The role that writes segments onto the chain of their partition."""
