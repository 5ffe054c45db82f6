"""Registry of the engines; add a new engine here."""

from assay_deploy.engines.engine import Engine
from assay_deploy.engines.onnxruntime.engine import OnnxRuntime
from assay_deploy.engines.openvino import OpenVino

ENGINES: dict[str, Engine] = {engine.name: engine for engine in (OnnxRuntime(), OpenVino())}
"""Engines by their names for ``--engine``."""

DEFAULT = OnnxRuntime.name
"""Name of the engine used unless another is requested."""
