"""Conversion of ONNX graphs to lower precisions, one module per precision."""
