"""Answer images in order: each thread reads a batch and runs it, so reading and computing overlap."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from assay_deploy.bundle.manifest import Manifest
from assay_deploy.engines.engine import Loaded
from assay_deploy.engines.machine import available_cores
from assay_deploy.errors import ImageError
from assay_deploy.images.canvas import place
from assay_deploy.images.source import Source, path_of, pixels
from assay_deploy.tasks.registry import TASKS
from assay_deploy.tasks.result import ImageResult, Unreadable
from assay_deploy.tasks.task import ImageInfo

BATCH = 32
"""Images the graph gets at once: beyond 16 an image does not get cheaper on a CPU, but memory grows."""


def predict(
    session: Loaded, manifest: Manifest, images: Sequence[Source], *, batch: int = BATCH
) -> Iterator[ImageResult]:
    """Answer images with a bundle's model, in order.

    A bounded number of batches is under way, so the memory needed does not depend on how many images there are.
    The threads share the cores with those of `session`: many images go fastest through a session of one thread.

    Args:
        session: one of the bundle's graphs, loaded by an engine.
        manifest: of the bundle.
        images: paths, bytes or arrays; see `Source`, and `read_image` for what is read how.
        batch: how many images the graph gets at once, at most.

    Yields:
        One result for each image: `Unreadable` where it is no image, else what the bundle's task gives.
    """
    threads = max(available_cores() // session.threads, 2)
    size = max(min(batch, -(-len(images) // threads)), 1)
    parts = (images[start : start + size] for start in range(0, len(images), size))
    pool = ThreadPoolExecutor(threads, thread_name_prefix="predict")
    pending: deque[Future[list[ImageResult]]] = deque()
    try:
        for part in parts:
            pending.append(pool.submit(_answer, session, manifest, part))
            if len(pending) > 2 * threads:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _answer(session: Loaded, manifest: Manifest, sources: Sequence[Source]) -> list[ImageResult]:
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
    answers: Iterator[ImageResult] = iter(())
    if read:
        answers = TASKS[manifest.task].answers(session.run(images[: len(read)]), read, manifest)
    return [next(answers) if result is None else result for result in results]
