"""The notebook in the docs runs, and is committed as it ran: with outputs, and without a trace of the machine."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebooks" / "training.ipynb"
MOST_BYTES = 150_000


def outputs(notebook: NotebookNode) -> str:
    """All that code cells answered in text."""
    texts = [
        output.get("text", "") or output.get("data", {}).get("text/plain", "")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    ]
    return "\n".join(texts)


def some_images(notebook: NotebookNode) -> int:
    return sum("image/png" in each.get("data", {}) for cell in notebook.cells for each in cell.get("outputs", []))


def accuracies(text: str) -> list[float]:
    """What `evaluate` and `finish` reported."""
    found = re.findall(r"'([\d.]+) of \d+ validation images right", text) + re.findall(r"'test_top1': ([\d.]+)", text)
    return [float(each) for each in found]


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> tuple[NotebookNode, Path]:
    """The notebook, run anew by its kernel, and the folder it ran in; an error in a cell is raised here."""
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(variable, str(folder / variable.lower()))
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        resources = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    return notebook, folder


def test_it_trains_goes_on_goes_back_and_reports(executed):
    notebook, folder = executed
    text = outputs(notebook)
    validated, tested = accuracies(text)
    assert validated > 0.9
    assert tested > 0.9
    assert "all 10 epochs done" in text
    assert "all 15 epochs done" in text
    assert some_images(notebook) == 2
    first, second = sorted(folder.glob("runs/digits/*"))
    assert len((first / "metrics.jsonl").read_text().splitlines()) == 15
    assert (second / "summary.json").is_file()


def test_it_is_committed_as_it_ran():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert len(accuracies(outputs(notebook))) == 2
    assert some_images(notebook) == 2


def test_it_is_small_and_names_no_machine():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < MOST_BYTES
    said = outputs(nbformat.read(NOTEBOOK, as_version=4))
    assert re.findall(r"/(?:home|root|tmp|work|usr|opt|Users)\b", said) == []
