"""Run all tests and benchmarks that need a GPU: `python benchmarks/gpu/suite.py [--budget SECONDS] [--data FOLDER]`.

With ``--bccd FOLDER`` the suite also trains every detector of the study `bccd`; with ``--airbench FILE`` it compares
the fastest recipe with that script.

It runs from a bare checkout: the dependencies of the packages must be installed, the packages themselves need not be.
Steps that do not fit into the budget are left to the next call with the same ``--out``. The records, ``gpu.json`` and
``gpu.md``, are updated after every step and name the hardware it ran on. Without a GPU the suite runs fewer and smaller
steps on the CPU.
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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

SOURCES = [ROOT, *(ROOT / member / "src" for member in ("research", "export", "deploy"))]

if __name__ == "__main__":
    sys.path[:0] = map(str, SOURCES)

from filelock import FileLock, Timeout  # noqa: E402

from assay_research.config.files import EVERYTHING, NOT_DOWNLOADED, studies  # noqa: E402
from assay_research.training.loop import COMPILE_MODES  # noqa: E402
from benchmarks.gpu import outcomes  # noqa: E402
from benchmarks.gpu.stepwise import GRACE, UNFINISHED, Ledger, Step, work  # noqa: E402

SMALL_DETECTORS = frozenset({"diatoms_smoke", "bccd/small"})
"""Experiments whose epoch takes less than a minute on a CPU."""


@dataclass(frozen=True)
class Site:
    """Paths and devices of a call of the suite.

    Attributes:
        out: folder of all outputs.
        data: folder with class folders of images under ``train/`` and ``test/``, or None.
        device: torch's device, ``cuda`` or ``cpu``.
        provider: ONNX Runtime's device, ``cuda`` or ``cpu``.
        airbench: script to compare with, or None.
        bccd: folder of the data set BCCD, with the subfolders of Pascal VOC, or None.
    """

    out: Path
    data: Path | None
    device: str
    provider: str
    airbench: Path | None = None
    bccd: Path | None = None

    @property
    def devices(self) -> tuple[str, ...]:
        """Devices that the benchmark suite uses."""
        return ("cpu",) if self.device == "cpu" else ("cpu", self.device)

    def newest_run(self, name: str) -> Path:
        """Return the folder of the newest run of an experiment that has a checkpoint."""
        found = sorted(self.out.glob(f"runs/{name}/*/checkpoints/last.pt"))
        if not found:
            raise LookupError(f"there is no run of '{name}' with a checkpoint under '{self.out / 'runs'}'")
        return found[-1].parents[1]


def steps(site: Site) -> list[Step]:
    """Return all steps of the suite, the cheapest and most important first. Add new steps here."""
    gpu = site.device == "cuda"
    digits = site.out / "digits"
    listed = [
        Step("write digits", lambda _: module("assay_research.data.digits", digits)),
        *pipeline(site, "digits", ["epochs=30" if gpu else "epochs=10"], digits),
        Step(
            "gpu tests",
            lambda _: module("pytest", "-m", "gpu", "tests"),
            lambda output: {"outcome": output.splitlines()[-1].strip("= ")},
            devices=("cuda",),
            skip=skip(site),
            empty=5,
        ),
        throughput(site, "eager"),
        detector(site, "diatoms_smoke"),
        export_fp16(site, "diatoms_smoke"),
    ]
    if site.bccd:
        listed += [detector(site, each, f"data.root='{site.bccd}'") for each in studies()["bccd"]]
    if site.data:
        tinyvgg = ["experiment=tinyvgg_table2/a_36", *folders(site.data), *([] if gpu else ["epochs=1"])]
        listed += pipeline(site, "tinyvgg_a_36", tinyvgg, site.data / "test")
        listed += [study(site, name, site.data) for name in studies() if name not in {EVERYTHING, *NOT_DOWNLOADED}]
        listed += [speedrun(site, site.data)]
    listed += [detector(site, "diatoms"), export_fp16(site, "diatoms")]
    # Compiling takes minutes.
    listed += [throughput(site, mode) for mode in COMPILE_MODES]
    return listed


def skip(site: Site) -> str:
    """Reason to skip a step that needs a GPU; "" if there is one."""
    return "" if site.device == "cuda" else "there is no CUDA device here"


def throughput(site: Site, how: str) -> Step:
    """Step that measures the training speed of all model families against the usual loop and the roofline.

    Args:
        site: paths and devices.
        how: ``eager``, which also runs on a CPU, or a mode of `torch.compile`, which needs a GPU.
    """
    name = "training" if how == "eager" else f"training {how}"
    suite = ("benchmarks/test_training_throughput.py", "--device", site.device, "-k", how)
    return Step(
        f"bench {name}",
        lambda _: bench(site, name, *suite),
        lambda _: outcomes.ratios(site.out / "bench" / name),
        devices=(site.device if how == "eager" else "cuda",),
        skip="" if how == "eager" else skip(site),
    )


def detector(site: Site, experiment: str, *overrides: str) -> Step:
    """Step that trains a detector; without a GPU, one epoch of a small detector.

    If the experiment needs weights trained on COCO and they cannot be downloaded, the step fails, and its record says
    which file to put where.
    """
    quick = ["epochs=1"] * (site.device == "cpu")
    step = training(site, experiment.replace("/", "_"), [f"experiment={experiment}", *overrides, *quick])
    return step if experiment in SMALL_DETECTORS else replace(step, devices=("cuda",), skip=skip(site))


def study(site: Site, name: str, data: Path) -> Step:
    """Step that trains every experiment of a study in one process, and continues where an earlier call ended.

    Existing runs of its experiments, for example from a `pipeline`, are reused.
    """
    return Step(
        f"study {name}",
        lambda _: module(
            "assay_research.commands.train", f"experiment={name}", *folders(data), *settings(site), "resume=auto"
        ),
        lambda _: outcomes.results(site.out / "runs" / name),
        devices=("cuda",),
        resumable=True,
        skip=skip(site),
    )


def speedrun(site: Site, data: Path) -> Step:
    """Step that times the best recipe of this project and, if given, the airbench script."""
    script = ("--airbench", site.airbench) if site.airbench else ()
    folder = site.out / "bench" / "speedrun"
    return Step(
        "speedrun",
        lambda _: module("benchmarks.races.speedrun", "--data", data, "--report", folder, *script),
        lambda _: outcomes.races(folder),
        devices=("cuda",),
        skip=skip(site),
    )


def folders(data: Path) -> list[str]:
    """Overrides of `assay-train` for training on class folders."""
    return ["data=image_folder", f"data.root='{data}'"]


def settings(site: Site) -> list[str]:
    """Overrides of `assay-train` for the output folder, the device and the figures, which need matplotlib."""
    figures = importlib.util.find_spec("matplotlib") is not None
    return [f"runs={site.out / 'runs'}", f"device={site.device}", f"figures={figures}"]


def pipeline(site: Site, name: str, overrides: list[str], images: Path) -> list[Step]:
    """Steps that train, export, check, predict and benchmark one experiment."""
    bundle = site.out / "bundles" / name
    predict = ("assay_deploy", "predict", bundle, images, "--json", "--top", "1", "--provider", site.provider)
    exported = (f"export {name}",)
    return [
        training(site, name, overrides),
        export(site, name, name),
        replace(export(site, name, f"{name}_compiled", f"formats=aoti-{site.device}"), devices=(site.device,)),
        export_fp16(site, name),
        Step(
            f"doctor {name}",
            lambda _: module("assay_deploy", "doctor", bundle, "--json", "--provider", site.provider),
            outcomes.placement,
            devices=(site.provider,),
            needs=exported,
        ),
        Step(
            f"predict {name}",
            lambda _: module(*predict),
            outcomes.accuracy,
            devices=(site.provider,),
            needs=(*exported, "write digits"),
        ),
        Step(
            f"predict {name} tta",
            lambda _: module(*predict, "--tta"),
            outcomes.accuracy,
            devices=(site.provider,),
            needs=(*exported, "write digits"),
        ),
        Step(
            f"bench {name}",
            lambda _: bench(
                site,
                name,
                *("benchmarks/test_inference.py", "benchmarks/test_parity.py"),
                *("--bundle", bundle, "--run", site.newest_run(name), "--images", images),
            ),
            lambda _: outcomes.ratios(site.out / "bench" / name),
            devices=site.devices,
            needs=exported,
        ),
    ]


def training(site: Site, name: str, overrides: list[str]) -> Step:
    """Step that trains one experiment, and continues where an earlier call ended."""
    return Step(
        f"train {name}",
        lambda begun: train(site, name, overrides, begun),
        lambda _: outcomes.scores(site.newest_run(name)),
        devices=(site.device,),
        resumable=True,
    )


def export(site: Site, name: str, bundle: str, *options: str) -> Step:
    """Step that exports the newest run of an experiment as a bundle."""
    bundles = site.out / "bundles"
    place = (f"bundles={bundles}", f"name={bundle}")
    return Step(
        f"export {bundle}",
        lambda _: module("assay_export.cli", f"run={site.newest_run(name)}", *place, *options),
        lambda _: outcomes.parity(bundles / bundle),
        needs=(f"train {name}",),
    )


def export_fp16(site: Site, name: str) -> Step:
    """Step that exports the newest run of an experiment as ONNX in float32 and float16."""
    return replace(
        export(site, name, f"{name}_fp16", "formats=onnx", "precisions=fp32,fp16"),
        devices=("cuda",),
        skip=skip(site) or ("" if site.provider == "cuda" else "onnxruntime-gpu is not installed"),
    )


def module(name: str, *arguments: str | Path) -> list[str | Path]:
    """Command line that runs a Python module."""
    return [sys.executable, "-m", name, *arguments]


def train(site: Site, name: str, overrides: list[str], begun: bool) -> list[str | Path]:
    """Command line of a training; resumes the newest run if an earlier call started one and it has a checkpoint."""
    if begun:
        with contextlib.suppress(LookupError):
            return module("assay_research.commands.train", f"resume='{site.newest_run(name)}'")
    return module("assay_research.commands.train", *overrides, f"name={name}", *settings(site))


def bench(site: Site, name: str, *arguments: str | Path) -> list[str | Path]:
    """Command line of a part of the benchmark suite; on a CPU with ``--quick``, as a functional check."""
    quick = ["--quick"] * (site.device == "cpu")
    return module("pytest", *arguments, *quick, "--report", site.out / "bench" / name)


def environment() -> dict[str, Any]:
    """Run `benchmarks.measure.environment` in another process, so that this one allocates no GPU memory."""
    ran = subprocess.run(module("benchmarks.measure.environment"), capture_output=True, text=True, check=False)  # noqa: S603
    if ran.returncode:
        sys.exit(f"gpu suite: cannot describe this machine:\n{ran.stderr}")
    found = json.loads(ran.stdout)
    assert isinstance(found, dict)
    return found


def main() -> None:
    """Run the command line of the GPU suite."""
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--budget", type=float, default=600, metavar="SECONDS", help="time limit of this call; default 600"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("gpu"), metavar="FOLDER", help="folder of all outputs; default gpu"
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="images in train/<class>/ and test/<class>/")
    parser.add_argument("--bccd", type=Path, metavar="FOLDER", help="data set BCCD, with JPEGImages/ and Annotations/")
    parser.add_argument(
        "--airbench", type=Path, metavar="FILE", help="script airbench94_muon.py to compare with; needs --data"
    )
    parser.epilog = (
        f"exit codes: 0 all steps are done; 1 a step failed; {UNFINISHED} call again to continue; 2 wrong usage"
    )
    arguments = parser.parse_args()
    if arguments.data and not all((arguments.data / part).is_dir() for part in ("train", "test")):
        parser.error(f"--data '{arguments.data}' has no folders train/ and test/")
    if arguments.bccd and not (arguments.bccd / "Annotations").is_dir():
        parser.error(f"--bccd '{arguments.bccd}' has no folder Annotations/")
    if arguments.airbench and not (arguments.data and arguments.airbench.is_file()):
        parser.error(f"--airbench '{arguments.airbench}' must be an existing file, together with --data")
    out: Path = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    given = (arguments.data, arguments.airbench, arguments.bccd)
    data, script, bccd = (path.resolve() if path else None for path in given)
    end = start + arguments.budget
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.chdir(ROOT)
    paths = [*SOURCES, os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(str(path) for path in paths if path)
    try:
        with FileLock(out / ".lock", timeout=GRACE):
            here = environment()
            cuda = "cuda" in here["hardware"]
            provider = "cuda" if cuda and "onnxruntime-gpu" in here["versions"] else "cpu"
            site = Site(out, data, "cuda" if cuda else "cpu", provider, script, bccd)
            ledger = Ledger(steps(site), out, "gpu", here)
            code = work(ledger, end, lambda line: print(line, flush=True))  # noqa: T201
    except ValueError as error:
        sys.exit(f"gpu suite: {error}")
    except Timeout:
        sys.exit(f"gpu suite: another call is already running in '{out}'")
    except KeyboardInterrupt:
        sys.exit(f"gpu suite: interrupted; to continue, call again with --out {out}")
    print(f"records: {ledger.json}, {ledger.markdown}")  # noqa: T201
    sys.exit(code)


if __name__ == "__main__":
    main()
