"""Texts of runs, presets, devices and the queue: one wording for screens and command line. No widgets."""
