"""The command line: `cifartui` and its commands. Parses, prints and exits; the work is done elsewhere."""
