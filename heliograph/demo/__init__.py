"""`heliograph demo`: runs all roles on sample events in a temporary folder, and checks every record of the run."""
