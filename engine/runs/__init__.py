"""Run directories: start, find, read, resume, delete. No torch."""
