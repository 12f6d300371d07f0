"""Names, bytes and rows of archived files. Pure: no input or output."""
