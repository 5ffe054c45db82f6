"""Pretrained weights of a file, a run or a server are the ones meant, or an error says what to do."""

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import MobileNet_V3_Large_Weights, mobilenet_v3_large

from assay_research.errors import ConfigError
from assay_research.models.base_detector import Detector
from assay_research.models.normalized import Normalized, Pretrained
from assay_research.models.pretrained import fetch, read
from tests.research.detectors import SMALL, build, decided, some_images


def found(detector: Detector) -> list[Tensor]:
    with torch.no_grad():
        return list(detector.eval()(some_images(2)))


@pytest.mark.parametrize("name", SMALL)
def test_weights_of_a_file_give_the_same_answer(name: str, tmp_path: Path) -> None:
    path = tmp_path / "weights-20260131.pth"  # a date is no hash
    torch.save(decided(name).model.state_dict(), path)
    detector = build(name, weights=str(path), detections=20)
    assert isinstance(detector, Pretrained)
    assert detector.statistics is None
    detector.load_pretrained()
    for one, other in zip(found(detector), found(decided(name)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert detector.statistics is not None
    mean, std = MobileNet_V3_Large_Weights.IMAGENET1K_V1.transforms().mean, (0.229, 0.224, 0.225)
    assert [each.tolist() for each in detector.statistics] == [pytest.approx(mean), pytest.approx(std)]


@pytest.mark.parametrize("name", SMALL)
def test_of_other_classes_the_class_predictor_alone_is_left_new(name: str, tmp_path: Path) -> None:
    torch.save(decided(name).model.state_dict(), tmp_path / "weights.pth")
    detector = build(name, classes=5, weights=str(tmp_path / "weights.pth"))
    new = {key: each.clone() for key, each in detector.model.state_dict().items()}
    detector.load_pretrained()
    source = decided(name).model.state_dict()
    predictors = ("roi_heads.box_predictor.", "head.classification_head.cls_logits.")
    for key, each in detector.model.state_dict().items():
        assert torch.equal(each, new[key] if key.startswith(predictors) else source[key]), key


def test_weights_of_a_run_come_with_its_statistics_and_the_averaged_ones_count(tmp_path: Path) -> None:
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.1, 0.2, 0.3])
    trained = Normalized(decided("retinanet_small"), mean, std).state_dict()
    averaged = {name: each + 1 if each.is_floating_point() else each for name, each in trained.items()}
    torch.save({"epoch": 3, "model": averaged, "ema": trained, "classes": ["a"]}, tmp_path / "best.pt")
    detector = build("retinanet_small", weights=str(tmp_path / "best.pt"))
    detector.load_pretrained()
    assert detector.statistics is not None
    assert all(torch.equal(one, other) for one, other in zip(detector.statistics, (mean, std), strict=True))
    source = decided("retinanet_small").state_dict()
    assert all(torch.equal(each, source[name]) for name, each in detector.state_dict().items())


OLDER = (
    (r"(rpn\.head\.conv|fpn\.(?:inner|layer)_blocks\.\d)\.0(?:\.0)?\.", r"\1."),
    (r"(head\.\w+_head\.conv\.)(\d)\.0\.", lambda match: f"{match[1]}{2 * int(match[2])}."),
)


@pytest.mark.parametrize("name", SMALL)
def test_names_of_torchvisions_older_files_are_understood(name: str, tmp_path: Path) -> None:
    """The published files have them: layers came without the block that now holds each."""
    state = dict(decided(name).model.state_dict())
    older = {re.sub(*OLDER[1], re.sub(*OLDER[0], key)): each for key, each in state.items()}  # type: ignore[call-overload]
    assert len(older.keys() - state.keys()) >= 8
    torch.save({key: each for key, each in older.items() if "num_batches" not in key}, tmp_path / "weights.pth")
    detector = build(name, weights=str(tmp_path / "weights.pth"))
    detector.load_pretrained()
    loaded = detector.model.state_dict()
    assert all(torch.equal(each, state[key]) for key, each in loaded.items() if "num_batches" not in key)


def test_a_backbones_file_fills_the_backbone(tmp_path: Path) -> None:
    source = mobilenet_v3_large(weights=None).state_dict()
    torch.save(source, tmp_path / "backbone.pth")
    detector = build("faster_rcnn_mobilenet", weights=str(tmp_path / "backbone.pth"))
    detector.load_pretrained()
    filled = detector.model.backbone.body.state_dict()
    assert len(filled) > 200
    assert all(torch.equal(each, source[f"features.{name}"]) for name, each in filled.items())
    with pytest.raises(ConfigError, match="only a backbone; trainable=head needs weights of a whole detector"):
        build("faster_rcnn_mobilenet", weights=str(tmp_path / "backbone.pth"), trainable="head").load_pretrained()


def test_a_file_is_what_the_hash_in_its_name_says(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "plain.pth")
    content = (tmp_path / "plain.pth").read_bytes()
    begins = next(
        found[:length]
        for length in range(8, 64)
        if re.search("[a-f]", (found := hashlib.sha256(content).hexdigest())[:length])
    )
    good, bad = (
        tmp_path / f"plain-{begins}.pth",
        tmp_path / f"plain-{'0' if begins[0] != '0' else '1'}{begins[1:]}a.pth",
    )
    for path in (good, bad):
        path.write_bytes(content)
    assert torch.equal(read(good).tensors["a"], torch.ones(2))
    with pytest.raises(ConfigError, match=r"damaged, or is another file than its name states.*Download it again"):
        read(bad)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("bomb",)


def test_files_that_do_not_fit_are_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    other = build("retinanet_small", channels=[16, 32, 64, 64]).model.state_dict()
    lacking = {name: each for name, each in build("retinanet_small").model.state_dict().items() if "fpn" not in name}
    files = {
        "code.pth": {"a": Bomb()},
        "list.pth": [1, 2],
        "empty.pth": {},
        "other.pth": other,
        "lacking.pth": lacking,
    }
    for name, content in files.items():
        torch.save(content, name)
    Path("text.pth").write_text("no weights at all")
    reasons = {
        "nowhere.pth": "expected none, backbone, coco or a file; there is no",
        "code.pth": "cannot read the weights in",
        "text.pth": "cannot read the weights in",
        ".": "cannot read the weights in",
        "list.pth": "no named tensors",
        "empty.pth": "no named tensors",
        "other.pth": r"for another model\. .*backbone\.body\.stem\.0\.weight.* and \d+ more",
        "lacking.pth": r"for another model\. .*backbone\.fpn\.inner_blocks",
    }
    for name, reason in reasons.items():
        with pytest.raises(ConfigError, match=reason):
            build("retinanet_small", weights=name).load_pretrained()
    assert not Path("bomb").exists()


def test_what_is_published_is_downloaded_once_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    content = b"some weights"
    good = tmp_path / f"net-{hashlib.sha256(content).hexdigest()[:16]}.pth"
    good.write_bytes(content)
    path = fetch(good.as_uri())
    good.unlink()
    assert fetch(good.as_uri()) == path
    assert path.read_bytes() == content
    bad = tmp_path / "net-abcdef01.pth"
    bad.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be downloaded"):
        fetch(bad.as_uri())


def test_without_a_network_the_error_says_how_to_get_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = "http://127.0.0.1:9/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"  # the discard port: nobody listens
    with pytest.raises(ConfigError) as raised:
        fetch(url)
    said = str(raised.value)
    assert url in said
    assert str(tmp_path / "hub" / "checkpoints" / "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth") in said
    assert "model.weights=<folder>/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth" in said
