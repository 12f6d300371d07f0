"""How to say a delivery on a wire. One module a kind; each sends once and knows nothing of retry or order."""
