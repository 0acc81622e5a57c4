"""The run directory: what a run writes, and how anybody reads and steers it. Never imports torch."""
