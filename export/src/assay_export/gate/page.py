"""The gate's verdict as one page that needs no other file: figures, reasons, and the worst images drawn."""

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
from assay_export.tasks.task import Worst
from assay_research.data.protocol import Data

TEMPLATE = "parity.html.jinja"

SHOWN = 320
"""Width of a drawn image, screen pixels at least."""

DRAWN = 0.3
"""Boxes are drawn from this score."""

EAGER, ARTIFACT = (0, 158, 115), (213, 94, 0)
"""Green and vermilion of Okabe and Ito's palette, which colour-blind people tell apart too."""


@dataclass(frozen=True)
class PageRow:
    """An artifact in a place, in words."""

    verdict: Verdict
    place: str
    outputs: tuple[tuple[str, str, str, str], ...]
    metric: str
    interval: str
    changed: str
    left_out: bool


@dataclass(frozen=True)
class Shown:
    """An image of the page: a ``data:`` address and what is said of it."""

    address: str
    worst: Worst


def render(
    manifest: Manifest,
    verdicts: Sequence[Verdict],
    left_out: Sequence[Verdict],
    data: Data,
) -> bytes:
    """The page, HTML in UTF-8.

    Args:
        manifest: of the bundle, or of what would have become one.
        verdicts: on its artifacts.
        left_out: on what it does without.
        data: whose test images are drawn.
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


def _images(verdict: Verdict, data: Data) -> Iterator[Shown]:
    for worst in verdict.worst:
        image = Image.fromarray(data.test.images[worst.index].numpy())
        factor = max(1, -(-SHOWN // image.width)) if worst.eager_boxes or worst.artifact_boxes else 1
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.BILINEAR)
        draw = ImageDraw.Draw(image)
        for boxes, colour, width in ((worst.eager_boxes, EAGER, 4), (worst.artifact_boxes, ARTIFACT, 2)):
            for *box, score, _ in boxes:
                if score >= DRAWN:
                    draw.rectangle([side * factor for side in box], outline=colour, width=width)
        kind = "jpeg" if factor > 1 or image.width > SHOWN else "png"  # a page of photographs as PNG had 12 MB
        buffer = io.BytesIO()
        image.save(buffer, kind)
        yield Shown(f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", worst)
