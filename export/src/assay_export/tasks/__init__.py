"""Export of the models of each task, one module per task."""
