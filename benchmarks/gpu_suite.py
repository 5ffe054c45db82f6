"""Do everything that needs a GPU in one go: `python benchmarks/gpu_suite.py [--budget SECONDS] [--data FOLDER]`.

It runs from a bare checkout, with the members' dependencies there but the members not installed. What does not fit
into the budget is left to the next call with the same ``--out``; the records, ``gpu.json`` and ``gpu.md``, are
written after every step and say on which hardware it ran. Without a GPU it does less of the same on the CPU.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from filelock import FileLock, Timeout  # noqa: E402

from benchmarks.stepwise import GRACE, UNFINISHED, Figures, Ledger, Step, work  # noqa: E402


@dataclass(frozen=True)
class Site:
    """Where the suite works.

    Attributes:
        out: folder of everything it leaves.
        data: class folders of pictures under ``train/`` and ``test/``, or None.
        device: ``cuda`` or ``cpu``, for torch.
        provider: ``cuda`` or ``cpu``, for ONNX Runtime.
    """

    out: Path
    data: Path | None
    device: str
    provider: str

    @property
    def devices(self) -> tuple[str, ...]:
        """What the benchmark suite finds and uses."""
        return ("cpu",) if self.device == "cpu" else ("cpu", self.device)

    def newest_run(self, name: str) -> Path:
        """The run of that experiment that was begun last among those with a checkpoint."""
        found = sorted(self.out.glob(f"runs/{name}/*/checkpoints/last.pt"))
        if not found:
            raise LookupError(f"there is no run of '{name}' with a checkpoint under '{self.out / 'runs'}'")
        return found[-1].parents[1]


def steps(site: Site) -> list[Step]:
    """Everything the suite does, in order. What is new and needs a GPU is added here."""
    gpu = site.device == "cuda"
    digits = site.out / "digits"
    listed = [
        Step("write digits", lambda _: module("assay_research.data.digits", digits)),
        *way(site, "digits", ["epochs=30" if gpu else "epochs=10"], digits),
    ]
    if site.data:
        folders = ["experiment=tinyvgg_table2/a_36", "data=image_folder", f"data.root='{site.data}'"]
        listed += way(site, "tinyvgg_a_36", [*folders, *([] if gpu else ["epochs=1"])], site.data / "test")
    listed += [
        Step(
            "gpu tests",
            lambda _: module("pytest", "-m", "gpu", "tests"),
            lambda output: {"outcome": output.splitlines()[-1].strip("= ")},
            devices=("cuda",),
            skip="" if gpu else "there is no CUDA device here",
            empty=5,
        ),
        Step(
            "bench training",
            lambda _: bench(site, "training", "benchmarks/test_training_throughput.py"),
            lambda _: ratios(site, "training"),
        ),
    ]
    return listed


def way(site: Site, name: str, overrides: list[str], pictures: Path) -> list[Step]:
    """One experiment all the way: trained, exported, examined, used on picture files, and timed."""
    bundle = site.out / "bundles" / name
    predict = ("assay_deploy", "predict", bundle, pictures, "--json", "--top", "1", "--provider", site.provider)
    exported = (f"export {name}",)
    return [
        Step(
            f"train {name}",
            lambda begun: train(site, name, overrides, begun),
            lambda _: scores(site, name),
            devices=(site.device,),
            resumable=True,
        ),
        Step(
            f"export {name}",
            lambda _: module(
                "assay_export.cli", f"run={site.newest_run(name)}", f"bundles={bundle.parent}", f"name={name}"
            ),
            lambda _: parity(bundle),
            needs=(f"train {name}",),
        ),
        Step(
            f"doctor {name}",
            lambda _: module("assay_deploy", "doctor", bundle, "--json", "--provider", site.provider),
            placement,
            devices=(site.provider,),
            needs=exported,
        ),
        Step(
            f"predict {name}",
            lambda _: module(*predict),
            accuracy,
            devices=(site.provider,),
            needs=(*exported, "write digits"),
        ),
        Step(
            f"predict {name} tta",
            lambda _: module(*predict, "--tta"),
            accuracy,
            devices=(site.provider,),
            needs=(*exported, "write digits"),
        ),
        Step(
            f"bench {name}",
            lambda _: bench(
                site,
                name,
                *("benchmarks/test_inference.py", "benchmarks/test_parity.py"),
                *("--bundle", bundle, "--run", site.newest_run(name), "--pictures", pictures),
            ),
            lambda _: ratios(site, name),
            devices=site.devices,
            needs=exported,
        ),
    ]


def module(name: str, *arguments: str | Path) -> list[str | Path]:
    """The command line of a module."""
    return [sys.executable, "-m", name, *arguments]


def train(site: Site, name: str, overrides: list[str], begun: bool) -> list[str | Path]:
    """Train anew, or go on with what an earlier call began if it got as far as a checkpoint."""
    if begun:
        with contextlib.suppress(LookupError):
            return module("assay_research.train", f"resume='{site.newest_run(name)}'")
    figures = importlib.util.find_spec("matplotlib") is not None
    settings = [f"name={name}", f"runs='{site.out / 'runs'}'", f"device={site.device}", f"figures={figures}"]
    return module("assay_research.train", *overrides, *settings)


def bench(site: Site, name: str, *arguments: str | Path) -> list[str | Path]:
    """Part of the benchmark suite; on a CPU only as much as shows that it works."""
    quick = ["--quick"] * (site.device == "cpu")
    return module("pytest", *arguments, *quick, "--report", site.out / "bench" / name)


def scores(site: Site, name: str) -> Figures:
    """From the summary of a finished run."""
    summary = json.loads((site.newest_run(name) / "summary.json").read_text())
    wanted = ("test_top1", "test_top1_tta", "val_top1", "epochs", "seconds", "hardware")
    found = {key: summary[key] for key in wanted if key in summary}
    return found | {"seconds an epoch": round(summary["seconds"] / summary["epochs"], 2)}


def parity(bundle: Path) -> Figures:
    """From the verdict of the gate."""
    return {
        artifact["path"]: f"differs by {artifact['probe_max_abs_diff']:.2g} on the probe; "
        f"{len(artifact['flipped'])} of {artifact['n']} test pictures changed"
        for artifact in json.loads((bundle / "parity.json").read_text())["artifacts"]
    }


def placement(output: str) -> Figures:
    """From what the doctor says: where each graph runs."""
    (report,) = json_lines(output)
    return {
        graph["path"]: f"runs on {graph['provider']}, differs by {graph['difference']:.2g} on the probe; nodes: "
        + ", ".join(f"{provider} {sum(kinds.values())}" for provider, kinds in graph["nodes"].items())
        for graph in report["graphs"]
    }


def accuracy(output: str) -> Figures:
    """From predictions on class folders."""
    lines = json_lines(output)
    if not lines:
        raise ValueError("no predictions")
    right = sum(line["label"] == Path(line["path"]).parent.name for line in lines)
    return {"pictures": len(lines), "top-1": round(right / len(lines), 4)}


def ratios(site: Site, name: str) -> Figures:
    """From the report of the benchmark suite: each ratio with its quartiles."""
    found = json.loads((site.out / "bench" / name / "bench.json").read_text())
    figures = {}
    for timing in found["timings"]:
        ratio = timing["ratio"]
        what = f"{timing['target']} against {timing['baseline']}, {timing['device']}, {timing['pictures']} pictures"
        figures[what] = (
            f"{ratio['median']:.2f} [{ratio['q1']:.2f}, {ratio['q3']:.2f}] times as fast, "
            f"{timing['pictures_per_second']:,.0f} pictures/s"
        )
    for finding in found["parity"]:
        what = f"{finding['target']} on {finding['dataset']}, {finding['device']}"
        figures[what] = f"top-1 {finding['top1']:.4f}, {finding['changed']} of {finding['n']} changed"
    return figures


def json_lines(output: str) -> list[Any]:
    """The lines of an output that are JSON objects; others are warnings of libraries."""
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def environment() -> dict[str, Any]:
    """What `benchmarks.environment` says, from a process of its own: this one is to hold no memory of the GPU."""
    ran = subprocess.run(module("benchmarks.environment"), capture_output=True, text=True, check=False)  # noqa: S603
    if ran.returncode:
        sys.exit(f"gpu_suite: torch cannot be asked what is here:\n{ran.stderr}")
    found = json.loads(ran.stdout)
    assert isinstance(found, dict)
    return found


def main() -> None:
    """The command line."""
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=600, metavar="SECONDS", help="of this call; default 600")
    parser.add_argument("--out", type=Path, default=Path("gpu"), metavar="FOLDER", help="default gpu")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="train/<class>/ and test/<class>/ of pictures")
    parser.epilog = f"exit codes: 0 all is done; 1 a step failed; {UNFINISHED} call again; 2 wrong usage"
    arguments = parser.parse_args()
    if arguments.data and not all((arguments.data / part).is_dir() for part in ("train", "test")):
        parser.error(f"--data '{arguments.data}' has no folders train/ and test/")
    out: Path = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    end = start + arguments.budget
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.chdir(ROOT)
    paths = [
        ROOT,
        *(ROOT / member / "src" for member in ("research", "export", "deploy")),
        os.environ.get("PYTHONPATH"),
    ]
    os.environ["PYTHONPATH"] = os.pathsep.join(str(path) for path in paths if path)
    try:
        with FileLock(out / ".lock", timeout=GRACE):
            here = environment()
            cuda = "cuda" in here["hardware"]
            provider = "cuda" if cuda and "onnxruntime-gpu" in here["versions"] else "cpu"
            data = arguments.data.resolve() if arguments.data else None
            site = Site(out, data, "cuda" if cuda else "cpu", provider)
            ledger = Ledger(steps(site), out, "gpu", here)
            code = work(ledger, end, lambda line: print(line, flush=True))  # noqa: T201
    except ValueError as error:
        sys.exit(f"gpu_suite: {error}")
    except Timeout:
        sys.exit(f"gpu_suite: another call is at work in '{out}'")
    except KeyboardInterrupt:
        sys.exit(f"gpu_suite: interrupted; call again with --out {out}")
    print(f"records: {ledger.json}, {ledger.markdown}")  # noqa: T201
    sys.exit(code)


if __name__ == "__main__":
    main()
