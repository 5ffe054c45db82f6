"""Run a graph of a bundle: one file or folder an engine."""
