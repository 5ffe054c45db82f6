"""Train image classifiers and detectors; a resumed training gives bit-identical results."""

__version__ = "0.1.0"
