"""The queue of a runs folder: its file, the allocation of devices, and the process that works it off. No torch."""
