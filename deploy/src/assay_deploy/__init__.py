"""Run a proven bundle with ONNX Runtime or OpenVINO; installs and runs without torch."""

__version__ = "0.1.0"
