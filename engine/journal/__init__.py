"""The journal of a run: typed events and commands as JSON lines, and the state they fold to. No torch."""
