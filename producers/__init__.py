"""Sources of events: the edge, readers of files and streams, builders from the catalogue, and the assistant's agents."""
