"""Classify pictures in order: each thread reads a batch and runs it, so reading and computing overlap."""

import glob
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assay_deploy.bundle import Manifest
from assay_deploy.canvas import PictureError, place, read_picture, suffixes
from assay_deploy.errors import AssayError
from assay_deploy.runtime import available_cores
from assay_deploy.session import Session

BATCH = 32
"""Pictures the graph gets at once: beyond 16 a picture does not get cheaper on a CPU, but memory grows."""


@dataclass(frozen=True)
class Prediction:
    """What the model says of one picture.

    Attributes:
        path: the picture's file.
        index: of the most probable class.
        label: its name.
        confidence: its probability.
        probabilities: float32 ``[classes]``, in the order of the manifest's labels.
    """

    path: Path
    index: int
    label: str
    confidence: float
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be read as a picture, and why."""

    path: Path
    error: str


def find_pictures(arguments: Iterable[str]) -> list[Path]:
    """Resolve files, folders and globs to pictures.

    A file is taken whatever its suffix, also one that a glob matches or that does not exist: reading it will tell.
    A folder stands for all files under it, in sorted order, whose suffix is that of a picture; names that begin
    with a dot are left out, links to folders are followed. A glob may hold ``**``.

    Raises:
        AssayError: a glob or folder yields nothing, or a folder cannot be listed.
    """
    found: list[Path] = []
    for argument in arguments:
        # os.path answers False where Path raises: no permission, a circle of links
        if os.path.isdir(argument):  # noqa: PTH112
            paths = list(_pictures_under(argument, set()))
            problem = f"no pictures under '{argument}'; looked for {' '.join(sorted(suffixes()))}"
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            # Path.glob takes no absolute pattern
            paths = sorted(map(Path, glob.iglob(argument, recursive=True)))  # noqa: PTH207
            paths = [path for path in paths if not path.is_dir()]
            problem = f"no file matches '{argument}'"
        else:
            paths, problem = [Path(argument)], ""
        if not paths:
            raise AssayError(problem)
        found += paths
    return found


def predict(
    session: Session, manifest: Manifest, paths: Sequence[Path], *, batch: int = BATCH
) -> Iterator[Prediction | Unreadable]:
    """Classify pictures, in order.

    A bounded number of batches is under way, so the memory needed does not depend on how many pictures there are.
    The threads share the cores with those of `session`: many pictures go fastest through a session of one thread.

    Args:
        session: of one of the bundle's graphs.
        manifest: of the bundle.
        paths: files; see `read_picture` for what is read how.
        batch: how many pictures the graph gets at once, at most.

    Yields:
        One result for each path: `Unreadable` where it is no picture.
    """
    threads = max(available_cores() // session.threads, 2)
    size = max(min(batch, -(-len(paths) // threads)), 1)
    parts = (paths[start : start + size] for start in range(0, len(paths), size))
    pool = ThreadPoolExecutor(threads, thread_name_prefix="predict")
    pending: deque[Future[list[Prediction | Unreadable]]] = deque()
    try:
        for part in parts:
            pending.append(pool.submit(_classify, session, manifest, part))
            if len(pending) > 2 * threads:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities ``[batch, classes]`` of logits ``[batch, classes]``."""
    powers: NDArray[np.float32] = np.exp(logits - logits.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def _pictures_under(folder: str, visited: set[tuple[int, int]]) -> Iterator[Path]:
    """Picture files in sorted order; each real folder is visited once, for links may form a circle."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted((entry for entry in listing if not entry.name.startswith(".")), key=lambda e: e.name)
        folders = {entry.name for entry in entries if entry.is_dir()}
        status = Path(folder).stat()
    except OSError as error:
        raise AssayError(f"{folder}: cannot be listed ({error.strerror})") from error
    if (status.st_dev, status.st_ino) in visited:
        return
    visited.add((status.st_dev, status.st_ino))
    for entry in entries:
        if entry.name in folders:
            yield from _pictures_under(entry.path, visited)
        elif Path(entry.name).suffix.lower() in suffixes():
            yield Path(entry.path)


def _classify(session: Session, manifest: Manifest, paths: Sequence[Path]) -> list[Prediction | Unreadable]:
    canvas = manifest.preprocess
    images = np.empty((len(paths), canvas.height, canvas.width, 3), np.uint8)
    results: list[Prediction | Unreadable | None] = []
    count = 0
    for path in paths:
        try:
            images[count] = place(read_picture(path), canvas)
        except PictureError as error:
            results.append(Unreadable(path, str(error)))
        else:
            results.append(None)
            count += 1
    if count:
        scores = session.run(images[:count])
        rows = iter(scores if session.output == "probabilities" else softmax(scores))
    return [result or _prediction(path, next(rows), manifest) for path, result in zip(paths, results, strict=True)]


def _prediction(path: Path, probabilities: NDArray[np.float32], manifest: Manifest) -> Prediction:
    index = int(np.argmax(probabilities))
    return Prediction(path, index, manifest.labels[index], float(probabilities[index]), probabilities)
