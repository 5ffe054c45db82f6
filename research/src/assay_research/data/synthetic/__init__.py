"""Synthetic microscope images of diatoms, for tests and demonstrations."""
