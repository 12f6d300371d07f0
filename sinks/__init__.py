"""Kinds of targets, a module or a folder for each. A sink sends each delivery once; retries and order are not its work."""
