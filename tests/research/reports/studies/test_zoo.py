"""docs/models.md says what the zoo builds now, and its counts are those of formulas written out here."""

import sys
from pathlib import Path

import pytest

import assay_research.reports.studies.zoo
from assay_research.reports.studies.zoo import ZOO, ClassifierModel, DetectorModel, main, markdown, measure, zoo

PAGE = Path(__file__).parents[4] / "docs" / "models.md"


def layer(inputs: int, out: int, kernel: int = 1, side: int = 1, count: int = 1) -> tuple[int, int]:
    """Weights and biases of a convolution or, at kernel 1 and side 1, a linear layer; two operations a multiply-add."""
    weights = inputs * out * kernel**2
    return count * (weights + out), count * 2 * weights * side**2


def total(*layers: tuple[int, int], norms: int = 0, biases: int = 0) -> tuple[int, int]:
    """The sum of layers; a BatchNorm has two numbers a channel, and the convolution before it no bias."""
    parameters, flops = (sum(each) for each in zip(*layers, strict=True))
    return parameters + norms - biases, flops


VGG_D = (
    *(layer(3, 64, 3, 32), layer(64, 64, 3, 32)),
    *(layer(64, 128, 3, 16), layer(128, 128, 3, 16)),
    *(layer(128, 256, 3, 8), layer(256, 256, 3, 8, count=2)),
    *(layer(256, 512, 3, 4), layer(512, 512, 3, 4, count=2)),
    layer(512, 512, 3, 2, count=3),
    *(layer(512, 4096), layer(4096, 4096), layer(4096, 10)),
)
V4 = (
    *(layer(3, 16, 3, 32), layer(16, 16, 3, 32)),
    *(layer(16, 32, 3, 16), layer(32, 32, 3, 16)),
    *(layer(32, 64, 3, 8), layer(64, 64, 3, 8)),
    *(layer(64, 128, 3, 4), layer(128, 128, 3, 4)),
    *(layer(128, 256, 3, 2), layer(256, 256, 3, 2)),
    *(layer(256, 256, count=2), layer(256, 10)),
)
V4_CHANNELS = 2 * (16 + 32 + 64 + 128 + 256)
VGG_D_CHANNELS = 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512


def resnet(blocks: int) -> tuple[int, int]:
    """Of three stages at 16, 32 and 64 channels, 6 * blocks + 2 layers."""
    channels = 16 + 2 * blocks * (16 + 32 + 64)
    return total(
        *(layer(3, 16, 3, 32), layer(16, 16, 3, 32, count=2 * blocks)),
        *(layer(16, 32, 3, 16), layer(32, 32, 3, 16, count=2 * blocks - 1)),
        *(layer(32, 64, 3, 8), layer(64, 64, 3, 8, count=2 * blocks - 1)),
        layer(64, 10),
        norms=2 * channels,
        biases=channels,
    )


CONVNET = total(layer(3, 32, 5, 32), layer(32, 16, 3, 32), layer(16 * 32 * 32, 10))
FC = total(layer(3 * 32 * 32, 4000), layer(4000, 10))
TINYVGG_HEAD = (layer(64, 64, count=2), layer(64, 10))

BY_HAND = {
    "vgg_a": total(
        *(layer(3, 64, 3, 32), layer(64, 128, 3, 16), layer(128, 256, 3, 8), layer(256, 256, 3, 8)),
        *(layer(256, 512, 3, 4), layer(512, 512, 3, 4), layer(512, 512, 3, 2, count=2)),
        *(layer(512, 4096), layer(4096, 4096), layer(4096, 10)),
    ),
    "vgg_d": total(*VGG_D),
    "vgg_d_bn": total(*VGG_D, norms=2 * VGG_D_CHANNELS, biases=VGG_D_CHANNELS),
    "tinyvgg_a": total(
        *(layer(3, 8, 3, 32), layer(8, 16, 3, 16), layer(16, 32, 3, 8), layer(32, 32, 3, 8)),
        *(layer(32, 64, 3, 4), layer(64, 64, 3, 4), layer(64, 64, 3, 2, count=2)),
        *TINYVGG_HEAD,
    ),
    "tinyvgg_c": total(
        *(layer(3, 8, 3, 32), layer(8, 8, 3, 32), layer(8, 16, 3, 16), layer(16, 16, 3, 16)),
        *(layer(16, 32, 3, 8), layer(32, 32, 3, 8), layer(32, 32, 1, 8)),
        *(layer(32, 64, 3, 4), layer(64, 64, 3, 4), layer(64, 64, 1, 4)),
        *(layer(64, 64, 3, 2, count=2), layer(64, 64, 1, 2)),
        *TINYVGG_HEAD,
    ),
    "tinyvggcifar10_v4": total(*V4, norms=2 * V4_CHANNELS, biases=V4_CHANNELS),
    "tinyvggcifar10_plain": total(*V4),
    "resnet_4": total(
        *(layer(3, 16, 3, 32), layer(16, 16, 3, 32, count=4)),
        *(layer(16, 32, 3, 16), layer(32, 32, 3, 16, count=3), layer(32, 10)),
        norms=2 * (5 * 16 + 4 * 32),
        biases=5 * 16 + 4 * 32,
    ),
    "resnet_15": resnet(5),
    "resnet_20": resnet(3),
    "resnet_56": resnet(9),
    **dict.fromkeys(("cs231n_barebones_fc", "cs231n_module_fc", "cs231n_sequential_fc"), FC),
    **dict.fromkeys(("cs231n_barebones_convnet", "cs231n_module_convnet", "cs231n_sequential_convnet"), CONVNET),
    "cs231n_open": total(
        *(layer(3, 32, 3, 32), layer(32, 64, 3, 16), layer(64 * 8 * 8, 512), layer(512, 10)),
    ),
}


@pytest.fixture(scope="module")
def everything() -> list[ClassifierModel | DetectorModel]:
    return [measure(path) for path in zoo()]


@pytest.fixture(scope="module")
def models(everything) -> dict[str, ClassifierModel]:
    return {model.name: model for model in everything if isinstance(model, ClassifierModel)}


@pytest.fixture(scope="module")
def detectors(everything) -> dict[str, DetectorModel]:
    return {model.name: model for model in everything if isinstance(model, DetectorModel)}


@pytest.mark.parametrize("name", BY_HAND)
def test_counts_are_those_of_the_formulas(name: str, models: dict[str, ClassifierModel]) -> None:
    assert (models[name].parameters, models[name].flops) == BY_HAND[name]


def test_counts_are_those_that_are_known_elsewhere(models: dict[str, ClassifierModel]) -> None:
    """He et al. print 0.27, 0.46 and 0.85 million; the convolutions of VGG-16 are 14,714,688 everywhere."""
    assert [round(models[f"resnet_{n}"].parameters / 1e6, 2) for n in (20, 15, 56)] == [0.27, 0.46, 0.85]
    head = 512 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 10 + 10
    assert models["vgg_d"].parameters - head == 14_714_688


def test_shapes_are_those_of_the_published_tables(models: dict[str, ClassifierModel]) -> None:
    found = models["vgg_e"]
    stages = ((2, (64, 32, 32)), (2, (128, 16, 16)), (4, (256, 8, 8)), (4, (512, 4, 4)), (4, (512, 2, 2)))
    assert found.maps == tuple(shape for count, shape in stages for _ in range(count))
    assert found.widths == (512, 4096, 4096, 10)
    assert {(model.input, model.output) for model in models.values()} == {((3, 32, 32), (10,))}
    for spelling in ("barebones", "module", "sequential"):
        assert models[f"cs231n_{spelling}_convnet"].maps == ((32, 32, 32), (16, 32, 32))
        assert models[f"cs231n_{spelling}_fc"].maps == ()
        assert models[f"cs231n_{spelling}_fc"].widths == (3072, 4000, 10)


def convolution(inputs: int, out: int, height: int, width: int, kernel: int = 3, biases: int = 1) -> tuple[int, int]:
    """Parameters and operations; a norm after it has two numbers a channel, and takes the bias' place."""
    weights = inputs * out * kernel**2
    return weights + biases * out, 2 * weights * height * width


def test_counts_of_the_small_detector_are_those_of_the_formulas(detectors: dict[str, DetectorModel]) -> None:
    body = [convolution(3, 16, 128, 160, biases=2)]
    for inputs, out, blocks, height in ((16, 32, 1, 64), (32, 64, 2, 32), (64, 128, 2, 16), (128, 128, 1, 8)):
        size = (height, height * 5 // 4)
        body += [convolution(inputs, out, *size, biases=2)]
        body += [convolution(out, out, *size, biases=2)] * (2 * blocks - 1)
    levels = [(32, 40), (16, 20), (8, 10), (4, 5)]
    pyramid = [convolution(c, 64, *size, kernel=1) for c, size in zip((64, 128, 128), levels, strict=False)]
    pyramid += [convolution(64, 64, *size) for size in levels[:3]]
    tower = [convolution(64, 64, *size, biases=2) for size in levels]
    ends = [convolution(64, 6 * out, *size) for out in (10, 4) for size in levels]
    shared = sum(parameters for parameters, _ in [*body, *pyramid, *4 * tower[:1], ends[0], ends[4]])
    found = detectors["retinanet_small"]
    assert found.parameters == shared
    assert found.flops == sum(flops for _, flops in [*body, *pyramid, *4 * tower, *ends])
    assert found.pyramid == tuple((64, *size) for size in levels)
    assert found.anchors == 6 * (32 * 40 + 16 * 20 + 8 * 10 + 4 * 5)
    assert found.proposals == 0


def test_the_committed_page_is_what_the_command_writes_now(everything: list[ClassifierModel | DetectorModel]) -> None:
    page = markdown(everything)
    assert PAGE.read_text(encoding="utf-8") == page
    assert page.count("\n| `") == len(list(ZOO.glob("*.yaml")))


def test_the_command_on_the_page_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = PAGE.read_bytes()
    assert f"\n    python -m {assay_research.reports.studies.zoo.__name__} docs/models.md\n".encode() in page
    monkeypatch.setattr(sys, "argv", ["zoo", str(tmp_path / "models.md")])
    main()
    assert (tmp_path / "models.md").read_bytes() == page


@pytest.mark.parametrize("arguments", [[], ["nowhere/models.md"]])
def test_without_a_file_to_write_the_command_says_so_and_fails(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["zoo", *arguments])
    with pytest.raises(SystemExit, match="models.md" if arguments else "usage: python -m"):
        main()
    assert list(tmp_path.iterdir()) == []
