"""Bundle folders and manifests, and the comparison of a graph's outputs with expected ones."""
