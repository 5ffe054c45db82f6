"""Turn a run into a bundle, and prove that every artifact in it is still the same model."""

__version__ = "0.1.0"
