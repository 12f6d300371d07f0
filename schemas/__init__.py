"""The vocabulary: every type and name that two packages share. It imports no other package of the project."""
