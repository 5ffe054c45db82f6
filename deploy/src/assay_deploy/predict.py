"""Predict images in order with several threads: each reads a batch and runs it, so reading and computing overlap."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from assay_deploy.bundle.manifest import Manifest
from assay_deploy.engines.engine import LoadedGraph
from assay_deploy.engines.machine import available_cores
from assay_deploy.errors import ImageError
from assay_deploy.images.canvas import place
from assay_deploy.images.source import Source, path_of, pixels
from assay_deploy.tasks.registry import TASKS
from assay_deploy.tasks.result import ImageResult, Unreadable
from assay_deploy.tasks.task import ImageInfo

BATCH = 32
"""Default number of images per batch: beyond 16, an image does not get cheaper on a CPU, but memory grows."""


def predict(
    session: LoadedGraph, manifest: Manifest, images: Sequence[Source], *, batch: int = BATCH
) -> Iterator[ImageResult]:
    """Predict images with a bundle's model, in order.

    The number of batches in progress is bounded, so memory use does not depend on the number of images. The threads
    share the cores with those of `session`: for many images, a session with one thread is fastest.

    Args:
        session: one of the bundle's graphs, loaded by an engine.
        manifest: manifest of the bundle.
        images: paths, bytes or arrays, see `Source`; `read_image` lists the formats.
        batch: maximum number of images per run of the graph.

    Yields:
        One result for each image: `Unreadable` if it cannot be read as an image, else the result of the bundle's task.
    """
    threads = max(available_cores() // session.threads, 2)
    size = max(min(batch, -(-len(images) // threads)), 1)
    parts = (images[start : start + size] for start in range(0, len(images), size))
    pool = ThreadPoolExecutor(threads, thread_name_prefix="predict")
    pending: deque[Future[list[ImageResult]]] = deque()
    try:
        for part in parts:
            pending.append(pool.submit(_predict_batch, session, manifest, part))
            if len(pending) > 2 * threads:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _predict_batch(session: LoadedGraph, manifest: Manifest, sources: Sequence[Source]) -> list[ImageResult]:
    canvas = manifest.preprocess
    images = np.empty((len(sources), canvas.height, canvas.width, 3), np.uint8)
    results: list[ImageResult | None] = []
    read: list[ImageInfo] = []
    for source in sources:
        path = path_of(source)
        try:
            image = pixels(source)
        except ImageError as error:
            results.append(Unreadable(path, str(error)))
        else:
            images[len(read)] = place(image, canvas)
            results.append(None)
            read.append(ImageInfo(path, (image.shape[0], image.shape[1])))
    predicted: Iterator[ImageResult] = iter(())
    if read:
        predicted = TASKS[manifest.task].results(session.run(images[: len(read)]), read, manifest)
    return [next(predicted) if result is None else result for result in results]
