"""Sources of events: the edge, a reader of files and streams, a builder of notifications, and agents on instances."""
