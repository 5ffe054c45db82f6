"""Train image classifiers, resumable to the bit."""

__version__ = "0.1.0"
