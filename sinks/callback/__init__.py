"""Kind `callback`: settings, credentials, signatures, formats of a call, and the sink that makes the calls."""
