"""Which subscriptions want an event, and why. Pure: no input or output. Patterns, groups and mutes get modules here."""
