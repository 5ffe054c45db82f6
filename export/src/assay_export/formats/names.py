"""The formats' names, which the command line knows before torch is imported."""

NAMES = ("torchscript", "onnx", "exported_program", "aoti-cpu", "aoti-cuda")
"""Of all formats, as `assay_export.formats.registry.FORMATS` has them."""

USUAL = ("torchscript", "onnx", "exported_program")
"""What is exported unless something else is asked for: what every machine makes, for every machine."""
