"""Labelled images as three splits of uint8 tensors."""
