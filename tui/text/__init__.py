"""Runs, presets, devices and the queue as text: one wording for the screens and the command line. No widgets."""
