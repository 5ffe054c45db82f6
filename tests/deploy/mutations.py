"""What can befall a bundle's files, each fault from a generator of its own."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assay_deploy.bundle import CHECKSUM, MANIFEST, checksum

Document = dict[str, Any]


def sign(bundle: Path) -> None:
    """Have the checksum name the manifest as it is now."""
    (bundle / CHECKSUM).write_bytes(checksum((bundle / MANIFEST).read_bytes()))


def edit(bundle: Path, change: Callable[[Document], object], *, signed: bool = True) -> None:
    """Change the manifest's JSON."""
    path = bundle / MANIFEST
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    if signed:
        sign(bundle)


def change_somewhere(generator: random.Random, document: Any) -> None:
    """Delete, rename, retype or duplicate something, somewhere."""
    spot = document
    while True:
        keys: list[Any] = list(spot) if isinstance(spot, dict) else list(range(len(spot)))
        if not keys:
            spot.update(new=1) if isinstance(spot, dict) else spot.append(None)
            return
        key = generator.choice(keys)
        if isinstance(spot[key], dict | list) and generator.random() < 0.8:
            spot = spot[key]
            continue
        junk: list[Any] = [None, True, -1, 1e300, "", "../x", "\0", [], {}, [[]], {"a": 1}, 10**30, "x" * 100]
        action = generator.randrange(4)
        if action == 0:
            del spot[key]
        elif action == 1 and isinstance(spot, dict):
            spot[f"{key}_"] = spot.pop(key)
        elif action == 2 and isinstance(spot, list):
            spot.append(spot[key])
        else:
            spot[key] = generator.choice(junk)
        return
