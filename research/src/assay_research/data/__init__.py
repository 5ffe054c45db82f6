"""Data sets of labelled images, each with three splits of uint8 tensors."""
