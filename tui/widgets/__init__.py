"""Widgets of the screens. They take data and draw; no file access."""
