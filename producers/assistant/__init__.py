"""Runs commands and sends files on instances: those who ask sign a request, agents execute it and leave records."""
