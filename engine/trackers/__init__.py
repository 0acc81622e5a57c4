"""Copies of a run's curves in TensorBoard, W&B, MLflow or Trackio, by each one's own library. No torch."""
