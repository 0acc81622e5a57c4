"""Facts that worker and dashboard both need: devices, readings, data locations, memory of a step. No torch."""
