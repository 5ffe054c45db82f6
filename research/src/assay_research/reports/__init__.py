"""What a person looks at: figures of runs and data sets."""
