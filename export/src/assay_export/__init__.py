"""Export a run as a bundle, and prove that every artifact in it gives the same outputs as the trained model."""

__version__ = "0.1.0"
