"""The machine, the versions and the commit that a figure belongs to."""

import json
import os
import platform
import sys
from typing import Any

import torch

from assay_deploy.engines.machine import available_cores
from assay_deploy.engines.onnxruntime.runtime import installed_runtimes
from assay_research.runs.provenance import commit, versions
from assay_research.training.device import hardware


def devices() -> list[str]:
    """Every device that is there, in torch's words."""
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def describe() -> dict[str, Any]:
    """What to put beside every figure, ready for JSON.

    Returns:
        ``hardware``: a name for each device that is there, ``cpu`` and perhaps ``cuda``; ``threads`` that each
        engine is given; ``load``, how many processes wanted a core in the last minute; ``versions``; ``commit``,
        "" outside a checkout.
    """
    names = devices()
    found = versions() | installed_runtimes() | {"system": f"{platform.system()} {platform.machine()}"}
    if "cuda" in names:
        found |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    return {
        "hardware": {name: hardware(torch.device(name)) for name in names},
        "threads": available_cores(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "versions": found,
        "commit": commit(),
    }


if __name__ == "__main__":
    json.dump(describe(), sys.stdout)
