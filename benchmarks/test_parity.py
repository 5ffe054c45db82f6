"""Agreement of each artifact with eager torch on the test split and on image files, whose prediction is also timed."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture
from torchvision import transforms

from assay_deploy.errors import AssayError
from assay_deploy.images.canvas import place
from assay_deploy.images.decode import read_image
from assay_deploy.images.find import find_images
from assay_deploy.predict import predict
from assay_deploy.tasks.classification import Prediction
from assay_export.tasks.classification import drop_allowed, flips_allowed
from assay_research.models.normalized import Normalized
from benchmarks.contenders.engines import BenchmarkSubject, Engine, Graph, Images, Predictions
from benchmarks.measure.interleave import compare

BATCH = 256

CHUNKS = 20
CHUNK_IMAGES = 64
"""Number of chunks in which image files are timed, and minimum images per chunk: for a few, start-up time dominates."""

Indices = NDArray[np.int64]
Findings = list[dict[str, Any]]


@pytest.fixture(scope="module")
def eager_answers(subject: BenchmarkSubject) -> Callable[[bool], Predictions]:
    """Function that returns eager torch's outputs for the test split on the CPU, with the plain view or all views."""
    return cache(lambda tta: _answer(subject.start(Graph("eager", tta), "cpu"), subject.data.test.images.numpy()))


@pytest.fixture(scope="module")
def images(
    subject: BenchmarkSubject, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Path], Indices]:
    """Image files and their labels."""
    folder = pytestconfig.option.images or _write_images(subject, tmp_path_factory.mktemp("images"))
    labels = subject.manifest.labels
    try:
        paths = find_images([str(folder)])
    except AssayError as error:
        pytest.fail(str(error), pytrace=False)
    for path in paths:
        if path.parent.name not in labels:
            pytest.fail(
                f"'{path}' is in a folder named '{path.parent.name}', which is not a label of bundle "
                f"'{subject.bundle}': --images needs folders named {', '.join(labels)}",
                pytrace=False,
            )
    return paths, np.array([labels.index(path.parent.name) for path in paths])


def test_artifact_answers_as_eager_on_the_test_split(
    subject: BenchmarkSubject,
    artifact: Graph,
    device: str,
    eager_answers: Callable[[bool], Predictions],
    parity: Findings,
) -> None:
    """Check that the changed classes and the score are within the limits of the gate and the manifest."""
    test = subject.data.test
    expected = {each.metric: each for each in subject.manifest.expected}["top1_tta" if artifact.tta else "top1"]
    answers = _answer(subject.start(artifact, device), test.images.numpy())
    finding = _judge(answers.argmax(1), eager_answers(artifact.tta).argmax(1), test.labels.numpy())
    parity.append({"target": str(artifact), "device": device, "dataset": expected.dataset, **finding})
    assert finding["changed"] <= flips_allowed(len(test), artifact.precision)
    assert finding["top1"] == pytest.approx(expected.value, abs=drop_allowed(len(test), artifact.precision))


def test_prediction_from_files_answers_as_eager(
    benchmark: BenchmarkFixture,
    subject: BenchmarkSubject,
    provider: str,
    images: tuple[list[Path], Indices],
    pytestconfig: pytest.Config,
    parity: Findings,
) -> None:
    """Time `predict` against a loop over single images, and compare its classes with eager torch on the same canvas."""
    paths, labels = images
    size = max(-(-len(paths) // CHUNKS), CHUNK_IMAGES)
    chunks = [paths[start : start + size] for start in range(0, len(paths), size)]
    # This reads every file once, so that the function timed first does not also wait for the disk.
    eager = np.concatenate([_eager_on_files(subject, chunk) for chunk in chunks])
    # Like `assay-deploy predict` for many images: one thread per batch, so the session has a single thread.
    session = subject.session(subject.manifest.artifact("onnx"), provider, threads=1)
    answers: list[int] = []

    def served(chunk: Sequence[Path]) -> None:
        for result in predict(session, subject.manifest, chunk):
            assert isinstance(result, Prediction)
            answers.append(result.index)

    plain = _plain_loop(subject, provider)
    plain(chunks[0])
    served(chunks[0])
    answers.clear()
    benchmark.group = "Image files"
    benchmark.extra_info |= {"target": "assay_deploy.predict", "baseline": "plain loop", "device": provider}
    compare(benchmark, plain, served, chunks, images=[len(chunk) for chunk in chunks])
    finding = _judge(np.array(answers), eager, labels)
    folder = pytestconfig.option.images
    dataset = f"{folder.resolve().parent.name}/{folder.name}" if folder else f"{subject.data.name}/test as PNG"
    parity.append({"target": "assay_deploy.predict", "device": provider, "dataset": dataset, **finding})
    assert finding["changed"] <= flips_allowed(len(paths), "fp32")


def _answer(engine: Engine, images: Images) -> Predictions:
    return np.concatenate([engine(images[start : start + BATCH]) for start in range(0, len(images), BATCH)])


def _judge(answers: Indices, eager: Indices, labels: Indices) -> dict[str, Any]:
    """Number of predictions that differ from eager's, and the accuracy of both."""
    return {
        "n": len(labels),
        "top1_eager": float((eager == labels).mean()),
        "top1": float((answers == labels).mean()),
        "changed": int((answers != eager).sum()),
    }


def _write_images(subject: BenchmarkSubject, folder: Path) -> Path:
    """Write the run's test images as files in class folders, and return the folder."""
    test, labels = subject.data.test, subject.manifest.labels
    for i, (image, label) in enumerate(zip(test.images.numpy(), test.labels.tolist(), strict=True)):
        path = folder / labels[label] / f"{i:05d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def _eager_on_files(subject: BenchmarkSubject, paths: Sequence[Path]) -> Indices:
    images = np.stack([place(read_image(path), subject.manifest.preprocess) for path in paths])
    answers: Indices = _answer(subject.start(Graph("eager", tta=False), "cpu"), images).argmax(1)
    return answers


def _plain_loop(subject: BenchmarkSubject, device: str) -> Callable[[Sequence[Path]], list[int]]:
    """Return a typical prediction loop without Assay: PIL and torchvision's transforms, one image at a time."""
    trained = subject.trained(device)
    model, canvas, view = trained.model, trained.canvas, trained.views[0]
    assert isinstance(model, Normalized)
    zoom = (view.size or min(canvas.height, canvas.width)) / min(canvas.height, canvas.width)
    transform = transforms.Compose(
        [
            transforms.Resize((round(canvas.height * zoom), round(canvas.width * zoom))),
            transforms.CenterCrop((canvas.height, canvas.width)),
            transforms.ToTensor(),
            transforms.Normalize(model.mean.flatten().tolist(), model.std.flatten().tolist()),
        ]
    )

    def run(paths: Sequence[Path]) -> list[int]:
        answers = []
        with torch.inference_mode():
            for path in paths:
                with Image.open(path) as image:
                    batch = transform(image.convert("RGB"))[None].to(device)
                answers.append(int(model.network(batch).argmax()))
        return answers

    return run
