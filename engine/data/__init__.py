"""Data sets as uint8 tensors, their splits, and batched augmentation. Knows nothing of training."""
