"""Inference engines that run the graphs of a bundle: one file or folder per engine."""
