"""ONNX Runtime engine, for the CPU and CUDA."""
