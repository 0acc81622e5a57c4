"""Charts of a run as plain data, and their three outputs: the screen, the printed page and files. No widgets."""
