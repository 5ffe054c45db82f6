"""What each task asks of an exported model: one file a task."""
