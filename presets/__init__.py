"""Presets: TOML files, their schema, checks and plan. Imports nothing else of this project."""
