"""The terminal: what it can show, what is sent to it, and replacements for what it cannot show."""
