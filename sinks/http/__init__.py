"""The one way out over HTTP: which addresses may be reached, and the client that reaches no other."""
