"""Lower an ONNX graph's precision: one file a precision."""
