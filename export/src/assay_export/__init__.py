"""Export a run as a bundle, and prove that every artifact in it agrees with the trained model."""

__version__ = "0.1.0"
