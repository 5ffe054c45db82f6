"""Runs on disk: config, checkpoints, history and summary; also disk space and the inventory of runs."""
