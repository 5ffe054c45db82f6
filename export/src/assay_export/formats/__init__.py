"""Export formats, one module per format: how a graph is written to a file, and how the file is run."""
