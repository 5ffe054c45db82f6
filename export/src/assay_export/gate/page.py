"""Write the gate's verdicts as one self-contained HTML page: figures, reasons, and the images that differ most."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from PIL import Image, ImageDraw

from assay_deploy.bundle.manifest import Manifest
from assay_export.formats.places import Place
from assay_export.gate import table
from assay_export.gate.verdict import Verdict
from assay_export.tasks.registry import task_named
from assay_export.tasks.task import WorstImage
from assay_research.data.protocol import Data

TEMPLATE = "parity.html.jinja"

IMAGE_WIDTH = 320
"""Least width of an image with boxes, pixels."""

LEAST_SCORE = 0.3
"""Least score of the boxes that are drawn."""

EAGER, ARTIFACT = (0, 158, 115), (213, 94, 0)
"""Colours of the boxes: green and vermilion of Okabe and Ito's palette, distinct for colour-blind readers too."""


@dataclass(frozen=True)
class PageRow:
    """A row of the table: a verdict, its engine and device, and its figures as text."""

    verdict: Verdict
    place: str
    outputs: tuple[tuple[str, str, str, str], ...]
    metric: str
    interval: str
    changed: str
    left_out: bool


@dataclass(frozen=True)
class GalleryImage:
    """An image of the page: its ``data:`` address and its description."""

    address: str
    worst: WorstImage


def render(
    manifest: Manifest,
    verdicts: Sequence[Verdict],
    left_out: Sequence[Verdict],
    data: Data,
) -> bytes:
    """Return the page, HTML in UTF-8.

    Args:
        manifest: the manifest of the bundle, or of the bundle that failed.
        verdicts: verdicts on the bundle's artifacts.
        left_out: verdicts on artifacts that are left out of the bundle.
        data: the data set whose test images are shown.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    rows = [_row(verdict, False) for verdict in verdicts] + [_row(verdict, True) for verdict in left_out]
    text = environment.get_template(TEMPLATE).render(
        manifest=manifest,
        rows=rows,
        passed=all(verdict.passed for verdict in verdicts),
        boxes=any(each.eager_boxes or each.artifact_boxes for row in rows for each in row.verdict.worst),
        n=len(data.test),
        dataset=f"{data.name}/test",
        metric=task_named(data.task).metric_name,
        images={row.verdict.path + row.place: list(_images(row.verdict, data)) for row in rows},
    )
    return text.encode()


def _row(verdict: Verdict, left_out: bool) -> PageRow:
    off, relative, task = verdict.differences, verdict.relative, verdict.task
    outputs = tuple(
        (
            name,
            "-" if off is None else f"{off[name]:.2g}",
            "-" if relative is None else f"{relative[name]:.1e}",
            f"{allowed:g}",
        )
        for name, allowed in verdict.tolerances.items()
    )
    interval = "" if task is None else task.difference_text()
    metric = "" if task is None else f"{task.eager:.4f} → {task.artifact:.4f}"
    return PageRow(
        verdict, str(Place(verdict.engine, verdict.device)), outputs, metric, interval, table.changed(verdict), left_out
    )


def _images(verdict: Verdict, data: Data) -> Iterator[GalleryImage]:
    for worst in verdict.worst:
        image = Image.fromarray(data.test.images[worst.index].numpy())
        factor = max(1, -(-IMAGE_WIDTH // image.width)) if worst.eager_boxes or worst.artifact_boxes else 1
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.BILINEAR)
        draw = ImageDraw.Draw(image)
        for boxes, colour, width in ((worst.eager_boxes, EAGER, 4), (worst.artifact_boxes, ARTIFACT, 2)):
            for *box, score, _ in boxes:
                if score >= LEAST_SCORE:
                    draw.rectangle([side * factor for side in box], outline=colour, width=width)
        kind = "jpeg" if factor > 1 or image.width > IMAGE_WIDTH else "png"  # a page of photographs as PNG had 12 MB
        buffer = io.BytesIO()
        image.save(buffer, kind)
        yield GalleryImage(f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", worst)
