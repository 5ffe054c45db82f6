"""From what a user typed to a checked config, and from a config to objects."""
