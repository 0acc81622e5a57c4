"""Networks by name, their layer tables, and pretrained weights."""
