"""The engines that run artifacts: a new one is its file and a line here."""

from assay_deploy.engines.engine import Engine
from assay_deploy.engines.onnxruntime.engine import OnnxRuntime
from assay_deploy.engines.openvino import OpenVino

ENGINES: dict[str, Engine] = {engine.name: engine for engine in (OnnxRuntime(), OpenVino())}
"""By the name that ``--engine`` takes."""

DEFAULT = OnnxRuntime.name
"""What runs a bundle where nothing else is asked for."""
