"""Data sets as uint8 tensors, their splits, and batched augmentation. No training loop."""
