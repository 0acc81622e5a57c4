"""Training engine: run directories, data sets, networks, the worker. Never imports the dashboard."""
