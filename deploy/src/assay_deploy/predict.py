"""Answer pictures in order: each thread reads a batch and runs it, so reading and computing overlap."""

import glob
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_deploy.canvas import PictureError, boxes_from_canvas, place, read_picture, suffixes
from assay_deploy.errors import AssayError, BundleError
from assay_deploy.manifest import DETECTION, Manifest
from assay_deploy.runtime import available_cores
from assay_deploy.session import Session

BATCH = 32
"""Pictures the graph gets at once: beyond 16 a picture does not get cheaper on a CPU, but memory grows."""


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one picture.

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
class Detected:
    """What a detector finds in one picture, by falling score.

    Attributes:
        path: the picture's file.
        size: height and width of the picture, pixels.
        boxes: float32 ``[detections, 4]``: left, top, right, bottom in the picture's own pixels.
        scores: float32 ``[detections]``.
        indices: int64 ``[detections]``: of the labels.
        labels: their names.
    """

    path: Path
    size: tuple[int, int]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    indices: NDArray[np.int64]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be read as a picture, and why."""

    path: Path
    error: str


Result = Prediction | Detected | Unreadable


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


def predict(session: Session, manifest: Manifest, paths: Sequence[Path], *, batch: int = BATCH) -> Iterator[Result]:
    """Classify pictures, or find objects in them, in order.

    A bounded number of batches is under way, so the memory needed does not depend on how many pictures there are.
    The threads share the cores with those of `session`: many pictures go fastest through a session of one thread.

    Args:
        session: of one of the bundle's graphs.
        manifest: of the bundle.
        paths: files; see `read_picture` for what is read how.
        batch: how many pictures the graph gets at once, at most.

    Yields:
        One result for each path: `Unreadable` where it is no picture, else what the bundle's task gives.
    """
    threads = max(available_cores() // session.threads, 2)
    size = max(min(batch, -(-len(paths) // threads)), 1)
    parts = (paths[start : start + size] for start in range(0, len(paths), size))
    pool = ThreadPoolExecutor(threads, thread_name_prefix="predict")
    pending: deque[Future[list[Result]]] = deque()
    try:
        for part in parts:
            pending.append(pool.submit(_answer, session, manifest, part))
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


def _answer(session: Session, manifest: Manifest, paths: Sequence[Path]) -> list[Result]:
    canvas = manifest.preprocess
    images = np.empty((len(paths), canvas.height, canvas.width, 3), np.uint8)
    results: list[Result | None] = []
    read: list[tuple[Path, tuple[int, int]]] = []
    for path in paths:
        try:
            picture = read_picture(path)
        except PictureError as error:
            results.append(Unreadable(path, str(error)))
        else:
            images[len(read)] = place(picture, canvas)
            results.append(None)
            read.append((path, (picture.shape[0], picture.shape[1])))
    answers: Iterator[Result] = iter(())
    if read:
        say = _detected if manifest.task == DETECTION else _predictions
        answers = iter(say(session.run(images[: len(read)]), read, manifest))
    return [result or next(answers) for result in results]


def _predictions(
    outputs: dict[str, NDArray[Any]], read: Sequence[tuple[Path, tuple[int, int]]], manifest: Manifest
) -> Iterator[Prediction]:
    rows = outputs["probabilities"] if "probabilities" in outputs else softmax(outputs["logits"])
    for (path, _), probabilities in zip(read, rows, strict=True):
        index = int(np.argmax(probabilities))
        yield Prediction(path, index, manifest.labels[index], float(probabilities[index]), probabilities)


def _detected(
    outputs: dict[str, NDArray[Any]], read: Sequence[tuple[Path, tuple[int, int]]], manifest: Manifest
) -> Iterator[Detected]:
    for (path, size), boxes, scores, labels in zip(
        read, outputs["boxes"], outputs["scores"], outputs["labels"], strict=True
    ):
        there = labels >= 0
        indices = labels[there]
        if indices.max(initial=0) >= len(manifest.labels):
            raise BundleError(f"the graph gives label {indices.max()}, but the bundle has {len(manifest.labels)}")
        yield Detected(
            path=path,
            size=size,
            boxes=boxes_from_canvas(boxes[there], size, manifest.preprocess),
            scores=scores[there],
            indices=indices,
            labels=tuple(manifest.labels[index] for index in indices),
        )
