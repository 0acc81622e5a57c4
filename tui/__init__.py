"""Terminal interface: dashboard and command line over run directories. No torch."""
