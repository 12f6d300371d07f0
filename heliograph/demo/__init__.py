"""`heliograph demo`: the main job on real parts in a temporary folder, accounted for to the last record."""
