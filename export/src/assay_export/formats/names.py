"""Names of the formats, for the command line, without importing torch."""

NAMES = ("torchscript", "onnx", "exported_program", "aoti-cpu", "aoti-cuda")
"""Names of all formats, equal to the keys of `assay_export.formats.registry.FORMATS`."""

DEFAULT_FORMATS = ("torchscript", "onnx", "exported_program")
"""Formats that are exported by default: every machine can make and run them."""
