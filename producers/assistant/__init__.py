"""Runs commands and writes files on instances: callers sign requests, agents execute them and append records."""
