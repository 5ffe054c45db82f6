"""Run a proven bundle with ONNX Runtime; installs and runs without torch."""

__version__ = "0.1.0"
