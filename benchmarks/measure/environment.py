"""Description of the machine, the package versions and the commit, stored with every figure."""

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
    """Available devices, by torch's names."""
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def describe() -> dict[str, Any]:
    """Describe the machine and the software, ready for JSON.

    Returns:
        ``hardware``: name of each available device, ``cpu`` and possibly ``cuda``; ``threads``: threads of each
        engine; ``load``: load average of the last minute, None if unknown; ``versions``: package versions by name;
        ``commit``: git commit, "" outside a checkout.
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
