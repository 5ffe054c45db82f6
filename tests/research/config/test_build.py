"""A config is data: only our builders are called, and a wrong name or type is refused with the right one."""

import pytest

from assay_research.config.build import instantiate
from assay_research.errors import ConfigError


@pytest.mark.parametrize(
    "target",
    [
        "builtins.open",
        "os.system",
        "assay_research.schedules.math.floor",
        "assay_research.models.nn.Linear",
        "assay_research.runs.checkpoint.save",
        "assay_research.optim._groups",
        "assay_research.schedules.math",
        "assay_research.schedules",
        "assay_researchx.schedules.Constant",
        "",
        None,
        3,
    ],
)
@pytest.mark.parametrize("within", ["schedules", "models", "optim"])
def test_builders_from_elsewhere_are_never_called(target, within):
    with pytest.raises(ConfigError, match="refused"):
        instantiate({"_target_": target}, within)


def test_misspelt_argument_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="no argument 'warmpu'; did you mean 'warmup'"):
        instantiate({"_target_": "assay_research.schedules.OneCycle", "warmpu": 0.2}, "schedules")


def test_misspelt_builder_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'OneCycle'"):
        instantiate({"_target_": "assay_research.schedules.OneCylce"}, "schedules")


def test_wrong_type_is_refused_with_the_expected_one():
    with pytest.raises(ConfigError, match="'soon' of type 'str' could not be converted to Float"):
        instantiate({"_target_": "assay_research.schedules.OneCycle", "warmup": "soon"}, "schedules")


def test_not_a_mapping_is_refused():
    with pytest.raises(ConfigError, match="expected a mapping"):
        instantiate("assay_research.schedules.OneCycle", "schedules")  # type: ignore[arg-type]
