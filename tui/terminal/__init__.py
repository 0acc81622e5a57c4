"""Terminal: its capabilities, the driver, control sequences, fallbacks for poor terminals."""
