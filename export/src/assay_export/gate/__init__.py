"""Prove that an artifact is the model, and show the verdict."""
