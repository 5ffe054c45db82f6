"""Detection: boxes, each with a class."""
