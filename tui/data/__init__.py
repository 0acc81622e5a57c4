"""Data behind the screens and the command line: runs, presets, the queue, the machine. Draws nothing."""
