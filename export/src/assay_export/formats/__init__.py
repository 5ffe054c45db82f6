"""From a graph to a file and back to something that runs: one file a format."""
