"""Kind `callback`: settings, credentials, signatures, the shapes of a call, and the sink that makes it."""
