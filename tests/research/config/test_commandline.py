"""A dataclass makes a command line: what it reads, refuses and explains; and no torch is needed to say so."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import assay_research
from assay_export import cli as export
from assay_research.commands import analyze, evaluate, train
from assay_research.config.commandline import Command, quoted
from assay_research.config.option import keys_of, option
from assay_research.errors import ConfigError

PROGRAMS = Path(sys.executable).parent
COMMANDS = {each.name: each for each in (train.COMMAND, evaluate.COMMAND, analyze.COMMAND, export.COMMAND)}
ODD = [
    "~/photos (1)", "a=b", "[36", "{x: 1}", "größe/写真", "it's", '"quoted"', "a,b", "${oc.env:HOME}", "${", "null",
    "back\\slash", "ends in \\", "\\${x}", " spaces ",
]  # fmt: skip


@dataclass(frozen=True)
class Options:
    """One of each kind."""

    path: str | None = option(None, "a path; any", key="the.path", folder=True)
    kind: str = option("plain", "of what", choices=("plain", "fancy"))
    names: list[str] = option(("a",), "which", choices=("a", "b", "aoti"))
    sizes: list[int] | None = option(None, "pixels", example="[36,40]")
    rows: list[dict[str, Any]] | None = option(None, "what to look at", example="[{size: 36}]")
    flip: bool = option(False, "mirrored too", example="true")
    share: float | None = option(None, "of the whole", example="0.5")


COMMAND = Command("assay-try", "1.2.3", Options, about="Try.", examples=(("assay-try", "it"),))


@pytest.mark.parametrize("text", ODD)
def test_text_is_taken_as_it_stands(text):
    assert COMMAND.read([f"the.path={text}"]).path == text


@pytest.mark.parametrize("text", ODD)
def test_quoted_text_is_text_for_hydra(text, tmp_path):
    assert analyze.parse(["data=voc", f"data.root={text}"]).data.root == text
    assert quoted("data.root", text).startswith("data.root=")


def test_values_are_hydras_and_typed():
    typed = ["sizes=[36,40]", "rows=[{size: 36, flip: true}, {}]", "flip=true", "share=1", "names=b,a,b", "kind=fancy"]
    read = COMMAND.read(typed)
    assert (read.sizes, read.rows) == ([36, 40], [{"size": 36, "flip": True}, {}])
    assert (read.flip, read.share, read.names, read.kind) == (True, 1.0, ["b", "a"], "fancy")
    assert isinstance(read.share, float)
    assert COMMAND.read(["names=[a,b]"]).names == ["a", "b"]
    assert COMMAND.read(["share=0.1", "share=null"]).share is None


def test_nothing_given_is_the_defaults_and_none_is_shared():
    COMMAND.read([]).names.append("b")
    assert COMMAND.read([]) == Options(None, "plain", ["a"], None, None, False, None)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("flipp=true", "there is no 'flipp'; did you mean 'flip'? valid here: flip, kind"),
        ("path=x", "there is no 'path'; did you mean 'the.path'?"),
        ("flip", "expected key=value, got 'flip'; see assay-try --help. Keys: the.path, kind"),
        ("=3", "there is no ''"),
        ("sizes=", "'sizes=' has no value; to use the default, leave out the argument"),
        ("sizes=36,40", "sizes=36,40: expected for example sizes=[36,40] (pixels)"),
        ("sizes=[a]", "sizes=[a]: expected for example sizes=[36,40] (pixels)"),
        ("sizes=${x}", "expected for example sizes=[36,40]"),
        ("share=half", "share=half: expected for example share=0.5 (of the whole)"),
        ("kind=fancier", "kind must be plain or fancy, got 'fancier'"),
        ("names=a,aot", "names: 'aot' is not a valid value; did you mean 'aoti'?"),
    ],
)
def test_what_does_not_fit_is_one_line_that_helps(argument, said):
    with pytest.raises(ConfigError) as refused:
        COMMAND.read([argument])
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_something_of_every_key_and_fits_a_terminal(name):
    text = COMMANDS[name].help(100)
    for key, (_, description) in keys_of(COMMANDS[name].options).items():
        assert f"\n  {key} " in text
        assert description.text
    assert all(len(line) <= 100 for line in text.splitlines())
    assert text == "\n".join(line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_in_descriptions_are_values_that_are_read(name):
    described = keys_of(COMMANDS[name].options)
    examples = [(key, each.example) for key, (_, each) in described.items() if each.example]
    for key, example in examples:
        OverridesParser.create().parse_override(f"{key}={example}")
        if name != "assay-train":
            COMMANDS[name].read([f"{key}={example}"])


def test_every_key_of_a_training_is_described_or_a_group():
    described = {field.name for field, _ in keys_of(train.TrainConfig).values()}
    assert set(train.TrainConfig.__dataclass_fields__) <= described | set(train.COMMAND.groups)


# Without torch

HEAVY = ("torch", "torchvision", "matplotlib", "sklearn", "onnx", "onnxruntime")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["-sc", "query=bash"], ["nonsense"]], ids=" ".join)
@pytest.mark.parametrize("name", COMMANDS)
def test_help_version_completion_and_refusals_import_no_torch(name, arguments):
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", PROGRAMS / name, *arguments], capture_output=True, text=True, check=False
    )
    assert ran.returncode == (arguments == ["nonsense"])
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in ran.stderr.splitlines()}
    assert "assay_research" in imported
    assert not imported & set(HEAVY)
    if arguments == ["--version"]:
        assert ran.stdout == f"{name} {assay_research.__version__}\n"
