"""Parts that the worker and the dashboard both import. No torch."""
