"""Check a bundle on this machine: file hashes, the device of each graph, and its outputs on the probe images."""

import io
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from assay_deploy._version import __version__
from assay_deploy.bundle.folder import CHECKSUM, MANIFEST, read_manifest, read_verified
from assay_deploy.bundle.manifest import IMAGES, Artifact, Manifest
from assay_deploy.bundle.strict_json import encode
from assay_deploy.engines.engine import Engine, LoadedGraph
from assay_deploy.engines.machine import available_cores
from assay_deploy.engines.registry import DEFAULT, ENGINES
from assay_deploy.errors import AssayError, BundleError, RuntimeUnavailableError
from assay_deploy.tasks.registry import TASKS


def examine(
    bundle: Path, *, engine: str = DEFAULT, provider: str = "auto", allow_fallback: bool = False
) -> dict[str, Any]:
    """Check a bundle and collect all problems instead of stopping at the first.

    Args:
        bundle: the bundle's folder.
        engine: name of the engine that runs the graphs, a key of `ENGINES`.
        provider: requested device, as for `assay_deploy.engines.engine.Engine.load`.
        allow_fallback: accept compute nodes on the CPU, as for `assay_deploy.engines.engine.Engine.load`.

    Returns:
        The report, ready for JSON. ``problems`` lists each problem with its fix; it is empty if there are none.
    """
    problems: list[str] = []
    chosen = ENGINES[engine]
    report: dict[str, Any] = {
        "path": str(bundle),
        "versions": {
            "assay-deploy": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            **chosen.versions(),
            "system": f"{platform.system()} {platform.machine()}, {available_cores()} usable cores",
        },
        "engine": chosen.title,
        "wanted": provider,
        "problems": problems,
    }
    try:
        report["providers"] = chosen.devices()
    except AssayError as error:
        problems.append(str(error))
    try:
        manifest = read_manifest(bundle)
    except BundleError as error:
        problems.append(str(error))
        return report
    report["manifest"] = encode(manifest)
    report["files"] = list(_files(bundle, manifest, problems))
    report["unlisted"] = _unlisted(bundle, manifest)
    if "providers" in report:
        graphs = [artifact for artifact in manifest.artifacts if chosen.runs(artifact)]
        report["graphs"] = [
            _graph(chosen, bundle, manifest, artifact, provider, allow_fallback, problems) for artifact in graphs
        ]
        if not graphs:
            have = ", ".join(sorted({f"{each.format} in {each.precision}" for each in manifest.artifacts}))
            problems.append(
                f"{bundle}: has no graph that {chosen.title} can run; it has {have}. Export one that it can"
            )
    return report


def _files(bundle: Path, manifest: Manifest, problems: list[str]) -> Iterator[dict[str, Any]]:
    for entry in manifest.files:
        try:
            size = len(read_verified(bundle, entry))
        except BundleError as error:
            problems.append(str(error))
            yield {"path": entry.path, "ok": False}
        else:
            yield {"path": entry.path, "ok": True, "bytes": size}


def _unlisted(bundle: Path, manifest: Manifest) -> list[str]:
    listed = {MANIFEST, CHECKSUM, *(entry.path for entry in manifest.files)}
    found = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if not path.is_dir()}
    return sorted(found - listed)


def _graph(
    engine: Engine,
    bundle: Path,
    manifest: Manifest,
    artifact: Artifact,
    provider: str,
    allow_fallback: bool,
    problems: list[str],
) -> dict[str, Any]:
    """Load a graph, run it on the probe images and report its placement, differences and problems."""
    found: dict[str, Any] = {"path": artifact.path, "views": artifact.views, "dense": artifact.dense}
    found |= {"tolerances": artifact.tolerances, "precision": artifact.precision, "ok": False, "skipped": ""}
    try:
        session = engine.load(bundle, manifest, artifact, provider=provider, allow_fallback=allow_fallback)
        found["provider"] = session.provider
        found["fallback"] = session.fallback
        nodes = Counter((node.provider, node.op) for node in session.placement)
        found["nodes"] = {name: {} for name, _ in sorted(nodes)}
        for (name, op), count in nodes.most_common():
            found["nodes"][name][op] = count
        found["stray"] = [asdict(node) for node in session.stray]
        found["differences"] = _replay(session, artifact, bundle, manifest)
    except AssayError as error:
        if isinstance(error, RuntimeUnavailableError) and artifact.device not in ("any", provider):
            found["skipped"] = str(error)  # proven on another device, which was not requested here
        elif str(error) not in problems:  # a damaged file is already among the problems
            problems.append(str(error))
        return found
    off = {name: each for name, each in found["differences"].items() if not each <= artifact.tolerances[name]}  # or NaN
    found["ok"] = not off
    for name, difference in off.items():
        problems.append(
            f"{artifact.path}: on the probe images, output '{name}' differs from the eager model's by up to "
            f"{difference:.3g}, tolerance {artifact.tolerances[name]:.3g}: on this machine the graph does not compute "
            f"what was proven. Try --provider cpu, or the version of {engine.title} listed in the manifest's toolchain"
        )
    return found


def _replay(session: LoadedGraph, artifact: Artifact, bundle: Path, manifest: Manifest) -> dict[str, float]:
    """Difference of each output from the eager model's on the probe images, by output name."""
    content = read_verified(bundle, manifest.probe)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as probe:
            images = probe[artifact.probe_name(IMAGES)]
            expected = {output: probe[artifact.probe_name(output)] for output in artifact.outputs}
        return TASKS[manifest.task].differences(session.run(images), expected)
    except AssayError:
        raise
    except Exception as error:  # NumPy raises errors without a common base class for a damaged archive
        raise BundleError(f"{bundle / manifest.probe.path}: not a probe of this bundle ({error})") from error


def render(report: dict[str, Any]) -> str:
    """Format the report as text for a terminal."""
    lines = [f"bundle      {report['path']}"]
    if "manifest" in report:
        lines += _manifest_lines(report["manifest"])
        lines += ["", "files"]
        for file in report["files"]:
            size = f"{file['bytes']:>12,} bytes" if file["ok"] else ""
            lines.append(f"  {_verdict(file['ok'])}  {file['path']:<24}{size}".rstrip())
        lines += [f"  note    {path}: not in the manifest, ignored" for path in report["unlisted"]]
    lines += ["", "versions"]
    lines += [f"  {name:<16}{number}" for name, number in report["versions"].items()]
    if "providers" in report:
        lines += [
            "",
            f"providers   requested: {report['wanted']}; {report['engine']} has: {', '.join(report['providers'])}",
        ]
    for graph in report.get("graphs", []):
        lines += ["", *_graph_lines(graph)]
    problems = report["problems"]
    if not problems:
        return "\n".join([*lines, "", "No problems found.\n"])
    lines += ["", "1 problem:" if len(problems) == 1 else f"{len(problems)} problems:"]
    lines += [f"  {number}. {problem}" for number, problem in enumerate(problems, 1)]
    return "\n".join(lines) + "\n"


def _manifest_lines(manifest: dict[str, Any]) -> Iterator[str]:
    source, canvas, labels = manifest["source"], manifest["preprocess"], manifest["labels"]
    yield f"name        {manifest['name']}, {manifest['task']}, manifest version {manifest['version']}"
    yield f"source      run {source['run']}, checkpoint {source['checkpoint']}, commit {source['commit'] or 'unknown'}"
    yield f"toolchain   {', '.join(f'{name} {number}' for name, number in manifest['toolchain'].items())}"
    yield f"canvas      {canvas['height']}x{canvas['width']} pixels, {canvas['fit']}"
    yield f"labels      {len(labels)}: {', '.join(labels[:10])}{', ...' if len(labels) > 10 else ''}"
    for view in manifest["views"]:
        size = "unchanged" if view["size"] is None else f"resized to {view['size']}, {view['crop']} crop"
        yield f"view        {size}{', mirrored' if view['flip'] else ''}"
    for expected in manifest["expected"]:
        yield (
            f"expected    {expected['metric']} {expected['value']:.4f} +- {expected['tolerance']:g} "
            f"on {expected['dataset']}, {expected['n']:,} images"
        )


def _graph_lines(graph: dict[str, Any]) -> Iterator[str]:
    variant = f"{graph['views']} view{'s' * (graph['views'] > 1)}"
    if graph["dense"] is not None:
        variant = f"dense, stride {graph['dense']} pixels"
    yield f"graph       {graph['path']}, {graph['precision']}, {variant}"
    if graph["skipped"]:
        yield f"  note    skipped: {graph['skipped']}"
        return
    if "provider" in graph:
        yield f"  runs on {graph['provider']}{': ' if graph['fallback'] else ''}{graph['fallback']}"
        for provider, ops in graph["nodes"].items():
            counts = ", ".join(f"{op} {count}" for op, count in ops.items())
            yield f"  {sum(ops.values()):>4} nodes on {provider}: {counts}"
        for node in graph["stray"]:
            yield f"  note    compute node {node['op']} '{node['name']}' is on {node['provider']}"
    for name, tolerance in graph["tolerances"].items():
        difference = f"differs by {graph['differences'][name]:.3g}" if "differences" in graph else "not run"
        yield f"  {_verdict(graph['ok'])}  probe {name} {difference}, tolerance {tolerance:.3g}"


def _verdict(ok: bool) -> str:
    return "ok    " if ok else "FAILED"
