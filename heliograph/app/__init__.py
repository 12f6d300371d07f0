"""One process: its configuration, the parts it opens, the roles it runs."""
