"""The worker process: the training loop and what it needs. Knows the run directory, never the dashboard."""
