"""Checks that tell what does not work here and how to mend it, and the permissions to grant."""
