"""`heliograph demo`: the main job on a real deployment in a temporary folder, reconciled to the last record."""
