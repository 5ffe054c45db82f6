"""A run's folder: its config, checkpoints, history, summary, and what is on disk."""
