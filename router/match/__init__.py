"""Which subscriptions want an event, and why. Pure: no input or output. Patterns and groups get modules here."""
