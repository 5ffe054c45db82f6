"""Labelled pictures as three splits of uint8 tensors."""
