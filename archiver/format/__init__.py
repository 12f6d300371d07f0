"""The keys, bytes and rows of archived files. Pure: no I/O."""
