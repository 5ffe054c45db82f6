"""From a model's answer to Python, text and JSON: one file a task."""
