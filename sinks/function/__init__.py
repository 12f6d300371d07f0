"""Kind `python`: calls a function of the user in worker processes."""
