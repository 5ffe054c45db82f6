"""What each task is to an experiment: one folder a task."""
