"""Training loop, early stopping, devices and distributed training."""
