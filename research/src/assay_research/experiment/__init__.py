"""Train a model, go on, evaluate it: what the commands and notebooks call."""
