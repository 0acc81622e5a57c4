"""Measurements, each one command: `python -m benchmarks.NAME`. Nothing here is imported by the program."""
