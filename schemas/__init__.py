"""The vocabulary: every word that two rooms share. Imports nothing of ours."""
