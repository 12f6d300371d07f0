"""The file formats of archived segments."""
