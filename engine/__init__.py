"""How a preset is trained. Knows nothing of the dashboard; see docs/run-directory.md for what it writes."""
