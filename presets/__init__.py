"""What can be trained: presets as data, and their schema. Imports nothing else of this project."""
