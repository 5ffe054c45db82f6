"""Commands of the project as nox sessions: `nox -l` lists them, `nox -s <session> -- <arguments>` runs one."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nox
import nox.virtualenv

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "none"  # sessions share the environment made by `environment`
nox.options.sessions = ["lint", "types", "tests"]

ROOT = Path(__file__).parent
LOCKS = Path("requirements")
MEMBERS = ("deploy", "research", "export")
PYTHONS = ((3, 11), (3, 13))
TORCH_PACKAGES = re.compile(r"(torch|torchvision|triton|nvidia-.*|cuda-.*)==")


def environment(session: nox.Session, torch: str = "torch") -> Path:
    """Install the shared environment unless it matches the lock files, and return the folder of its programs.

    Args:
        session: the nox session.
        torch: name of the lock file with torch, which also selects the environment.
    """
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        oldest, newest = (f"{major}.{minor}" for major, minor in PYTHONS)
        session.error(
            f"Assay needs Python {oldest} to {newest}, but nox runs on {sys.version.split()[0]}: "
            f"install nox with another Python, as in `python{newest} -m venv .venv`"
        )
    folder = Path(".nox", "assay" if torch == "torch" else f"assay-{torch}")
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    python, stamp = programs / "python", folder / "assay-stamp"
    dev, lock = LOCKS / "dev.txt", LOCKS / f"{torch}.txt"
    backend = os.environ.get("UV_TORCH_BACKEND", "")
    sources = [dev, lock, *(Path(member, "pyproject.toml") for member in MEMBERS)]
    wanted = [str(ROOT), sys.version, backend, *(source.read_text(encoding="utf-8") for source in sources)]
    digest = hashlib.sha256("\0".join(wanted).encode()).hexdigest()
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest:
        return programs
    if backend and not nox.virtualenv.HAS_UV:
        session.error("UV_TORCH_BACKEND is set, but only uv supports it, and uv is not installed: pip install uv")
    if folder.exists():
        shutil.rmtree(folder)
    install: list[str | Path]
    if nox.virtualenv.HAS_UV:
        session.run(nox.virtualenv.UV, "venv", "--quiet", "--python", sys.executable, folder)
        # Compile bytecode now, like pip: where Python may not write it, compiling at every start takes 9 of 15 seconds.
        install = [nox.virtualenv.UV, "pip", "install", "--compile-bytecode", "--python", python]
    else:
        session.run(sys.executable, "-m", "venv", folder)
        install = [python, "-m", "pip", "install"]
    locked = [*install, "--no-deps", "--require-hashes"]
    if backend:  # uv reads the variable itself; other builds of torch have other hashes than those in the lock
        session.run(*locked, "-r", dev)
        session.run(*install, *re.findall(r"(?m)^torch(?:vision)?==[^ ]+", lock.read_text(encoding="utf-8")))
    else:
        session.run(*locked, "-r", dev, "-r", lock)
    editable = [argument for member in MEMBERS for argument in ("-e", f"./{member}")]
    session.run(*install, "--no-deps", "--no-build-isolation", *editable)
    stamp.write_text(digest, encoding="utf-8")  # written last, so that an interrupted installation has no stamp
    return programs


@nox.session
def demo(session: nox.Session) -> None:
    """Demonstrate the whole pipeline in minutes on the embedded data set: train, export, gate, predict, bench."""
    programs = environment(session)
    bundle, images = Path("bundles", "digits"), Path(session.create_tmp(), "digits")
    session.run(programs / "assay-train")
    run = newest(session, "runs/digits/*/summary.json")
    session.run(programs / "assay-export", f"run={run}", f"name={bundle.name}")
    session.run(programs / "python", "-m", "assay_research.data.digits", images)
    for options in ([], ["--tta"]):
        lines = predictions(session, programs / "assay-deploy", "predict", bundle, images, *options)
        right = sum(Path(path).parent.name == label for path, label, _ in lines)
        for line in lines[:: len(lines) // 5]:
            session.log("  ".join(line))
        session.log(f"{right} of {len(lines)} held-out images correct{' with --tta' if options else ''}")
    session.run(programs / "assay-deploy", "doctor", bundle)
    suites = [Path("benchmarks", f"test_{suite}.py") for suite in ("inference", "parity")]
    session.run(programs / "pytest", *suites, "--quick", "--bundle", bundle, "--run", run)
    session.log(f"run      {run}")
    session.log(f"bundle   {bundle}")
    session.log(f"figures  {run / 'figures'}, {Path('bench', 'bench.png')}")
    session.log(f"table    {Path('bench', 'bench.md')}")


def newest(session: nox.Session, pattern: str) -> Path:
    """Folder of the newest file that matches a glob pattern."""
    found = sorted(Path().glob(pattern), key=os.path.getmtime)
    if not found:
        session.error(f"no file matches {pattern}")
    return found[-1].parent


def predictions(session: nox.Session, *command: str | Path) -> list[list[str]]:
    """Run an `assay-deploy predict` command and return the path, label and confidence of every image."""
    output = session.run(*command, silent=True, stderr=None)
    return [line.split("\t") for line in str(output).splitlines()]


@nox.session
def train(session: nox.Session) -> None:
    """Train a model: -- [key=value ...]; without arguments, on the embedded digits."""
    programs = environment(session)
    # Stopping nox stops the training, which needs time to save: by default, nox kills it after half a second.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    session.run(programs / "assay-train", *session.posargs, terminate_timeout=None)


@nox.session
def results(session: nox.Session) -> None:
    """Write docs/results.md from docs/results/*.json and additional runs: -- [run or sweep folder ...]."""
    session.run(environment(session) / "python", "-m", "assay_research.reports.studies.results", *session.posargs)


@nox.session
def evaluate(session: nox.Session) -> None:
    """Compute all metrics of one or all checkpoints: -- [run=<run>] [checkpoint=all] [key=value ...]."""
    session.run(environment(session) / "assay-evaluate", *session.posargs)


@nox.session
def analyze(session: nox.Session) -> None:
    """Write a report of a data set, one HTML file and figures: -- data=voc data.root=<folder> [out=<folder>]."""
    session.run(environment(session) / "assay-analyze", *session.posargs)


@nox.session
def runs(session: nox.Session) -> None:
    """List or delete runs: -- list [--json], or prune [--unfinished | --keep-best N | ...]."""
    session.run(environment(session) / "assay-runs", *session.posargs)


@nox.session
def export(session: nox.Session) -> None:
    """Export a run as a proven bundle: -- [run=<run>] [key=value ...]; the newest run by default."""
    session.run(environment(session) / "assay-export", *session.posargs)


@nox.session
def predict(session: nox.Session) -> None:
    """Predict images with a bundle: -- <bundle> <image, folder or glob> [...] [--tta] [--json]."""
    session.run(environment(session) / "assay-deploy", "predict", *session.posargs)


@nox.session
def doctor(session: nox.Session) -> None:
    """Check a bundle and the inference engine on this machine: -- <bundle>."""
    session.run(environment(session) / "assay-deploy", "doctor", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmark throughput, latency and parity relative to eager torch: -- [pytest arguments]."""
    session.run(environment(session) / "pytest", "benchmarks", *session.posargs)


@nox.session
def gpu(session: nox.Session) -> None:
    """Run all tests and benchmarks that need a GPU: -- [arguments of benchmarks/gpu/suite.py]."""
    session.run(environment(session) / "python", Path("benchmarks", "gpu", "suite.py"), *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the fast tests on all cores: -- [pytest arguments]; -n0 runs them in one process."""
    run_tests(session, environment(session), *session.posargs)


@nox.session
def tests_slow(session: nox.Session) -> None:
    """Run the slow tests, which take minutes: -- [pytest arguments]."""
    session.run(environment(session) / "pytest", "-m", "slow", *session.posargs)


@nox.session
def tests_oldest(session: nox.Session) -> None:
    """Run the fast tests on the oldest supported torch: -- [pytest arguments]."""
    run_tests(session, environment(session, "torch-oldest"), *session.posargs)


def run_tests(session: nox.Session, programs: Path, *arguments: str) -> None:
    """Run the fast tests with one process per core and one thread per process, so that they do not share cores.

    Args:
        session: the nox session.
        programs: folder of the environment's programs.
        arguments: arguments of pytest.
    """
    parallel = ("-n", "auto", "--dist", "worksteal")
    session.run(programs / "pytest", "-m", "not slow", *parallel, *arguments, env={"OMP_NUM_THREADS": "1"})


@nox.session(venv_backend="uv|venv")
def docs(session: nox.Session) -> None:
    """Build the documentation site, site/index.html; a warning is an error."""
    session.install("--no-deps", "--require-hashes", "-r", str(LOCKS / "docs.txt"))
    session.run("python", Path("docs", "site.py"))


@nox.session
@nox.parametrize("target", ["cpu", "gpu"], ids=["cpu", "gpu"])
def image(session: nox.Session, target: str) -> None:
    """Build a deploy image and test the newest bundle in it: -- [build options, such as --build-arg BASE=...]."""
    tool = container_tool(session)
    bundle = newest(session, "bundles/*/manifest.json")
    images = Path(session.create_tmp(), "images")
    programs = environment(session)
    session.run(programs / "python", "-m", "assay_research.data.digits", images)
    version = str(session.run(programs / "assay-deploy", "--version", silent=True)).split()[-1]
    name = f"assay-deploy:{target}"
    session.run(
        *((tool, "build") if tool == "docker" else (tool, "build", "--format", "docker")),  # OCI has no health check
        *("--file", "docker/deploy.Dockerfile", "--target", target, "--tag", name),
        *("--build-arg", f"VERSION={version}", *session.posargs, "."),
    )
    mounts = ["--volume", f"{bundle.resolve()}:/bundle:ro", "--volume", f"{images.resolve()}:/images:ro"]
    has_gpu = target == "gpu" and tool != "buildah" and shutil.which("nvidia-smi") is not None
    if tool == "buildah":  # it has no --read-only; the image's user owns no files, so it can write only to /tmp
        container = str(session.run(tool, "from", name, silent=True)).split()[-1]
        inside = [tool, "run", "--network", "none", *mounts, container, "--"]
    else:
        inside = [tool, "run", "--rm", "--read-only", "--network", "none", "--security-opt", "label=disable", *mounts]
        inside += ["--gpus", "all"] * has_gpu + ["--entrypoint", "env", name]
    try:
        session.run(*inside, "python", "-c", INSIDE)
        session.run(*inside, "assay-deploy", "doctor", "/bundle")
        for provider in ["cpu"] + ["cuda"] * has_gpu:
            lines = predictions(
                session, *inside, "assay-deploy", "predict", "/bundle", "/images", "--provider", provider
            )
            session.log(f"{provider}: predicted {len(lines)} images, the first: {'  '.join(lines[0])}")
    finally:
        if tool == "buildah":
            session.run(tool, "rm", container, silent=True)
    size = str(session.run(tool, "images", "--format", "{{.Size}}", name, silent=True)).strip()
    config = "Docker.Config" if tool == "buildah" else "Config"
    label = f'{{{{index .{config}.Labels "org.opencontainers.image.base.name"}}}}'
    base = str(session.run(tool, "inspect", "--type", "image", "--format", label, name, silent=True)).strip()
    session.log(f"{name}: {size}, built with {tool} on {base}")
    if target == "gpu" and not has_gpu:
        session.warn("no GPU found: the gpu image was tested only on the CPU, not with CUDA")


INSIDE = """
import importlib.util, os, sys
assert os.getuid() != 0, "runs as root"
assert not any(importlib.util.find_spec(name) for name in ("torch", "torchvision", "onnx", "pip")), "unneeded packages"
assert not any(os.access(place, os.W_OK) for place in ("/", "/usr", sys.prefix, "/bundle")), "folders are writable"
print("user", os.getuid(), "python", sys.version.split()[0], "no torch")
"""


def container_tool(session: nox.Session) -> str:
    """Return the first of docker, podman and buildah that is installed and works."""
    probes = {"docker": "info", "podman": "info", "buildah": "version"}
    working = (
        tool
        for tool, probe in probes.items()
        if (found := shutil.which(tool))
        and subprocess.run([found, probe], capture_output=True, check=False).returncode == 0  # noqa: S603
    )
    tool = next(working, None)
    if tool is None:
        session.error("found no working docker, podman or buildah (for docker: is its engine running?)")
    return tool


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style and format of every file."""
    ruff = environment(session) / "ruff"
    session.run(ruff, "check")
    session.run(ruff, "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the packages, the benchmarks and this file."""
    paths = [Path(member, "src") for member in MEMBERS]
    session.run(environment(session) / "mypy", *paths, "benchmarks", "noxfile.py")


@nox.session(venv_backend="uv|venv")
def lock(session: nox.Session) -> None:
    """Regenerate requirements/*.txt, keeping versions that are still compatible: -- [--upgrade]."""
    session.install("uv>=0.7")

    whole = Path(session.create_tmp(), "whole.txt")
    dev, torch, oldest = (LOCKS / f"{name}.txt" for name in ("dev", "torch", "torch-oldest"))

    def compile_lock(output: Path, *sources: str | Path) -> None:
        session.run(
            *("uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"),
            *("--custom-compile-command", "nox -s lock", "--output-file", output),
            *(option for member in MEMBERS for option in ("--no-emit-package", f"assay-{member}")),
            *(*sources, *session.posargs),
            env={"UV_TORCH_BACKEND": None},
        )

    def entries(of_torch: bool) -> str:
        head, *rest = re.split(r"(?m)^(?=[a-z0-9])", whole.read_text(encoding="utf-8"))
        return head + "".join(entry for entry in rest if bool(TORCH_PACKAGES.match(entry)) == of_torch)

    everything = (LOCKS / "dev.in", "--group", "dev")
    whole.write_text("".join(path.read_text(encoding="utf-8") for path in (dev, torch) if path.exists()))
    compile_lock(whole, *everything)
    dev.write_text(entries(of_torch=False), encoding="utf-8")
    torch.write_text(entries(of_torch=True), encoding="utf-8")
    shutil.copy(oldest, whole) if oldest.exists() else whole.unlink()
    compile_lock(whole, *everything, "-c", dev, "-c", LOCKS / "torch-oldest.in")
    oldest.write_text(entries(of_torch=True), encoding="utf-8")
    compile_lock(LOCKS / "build.txt", "--group", "build", "-c", dev)
    compile_lock(LOCKS / "docs.txt", "--group", "docs")
    for extra in ("cpu", "gpu"):
        compile_lock(LOCKS / f"deploy-{extra}.txt", Path("deploy", "pyproject.toml"), "--extra", extra, "-c", dev)
