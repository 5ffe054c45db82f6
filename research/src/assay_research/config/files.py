"""Files of ``conf``: choices of each config group, and studies, which are folders of experiments."""

from pathlib import Path

CONF = Path(__file__).parents[1] / "conf"

EVERYTHING = "everything"

NOT_DOWNLOADED = frozenset({"bccd"})
"""Studies whose data set is not downloaded automatically; `EVERYTHING` does not contain them."""


def choices(group: str) -> list[str]:
    """Return the names of a group's files, ``a`` or ``folder/a``, without files that begin with _."""
    found = (path.relative_to(CONF / group).with_suffix("") for path in (CONF / group).rglob("*.yaml"))
    return sorted(path.as_posix() for path in found if not path.name.startswith("_"))


def studies() -> dict[str, list[str]]:
    """Return the experiments of each study (folder of experiments), and ``everything``, all experiments of studies."""
    found: dict[str, list[str]] = {EVERYTHING: []}
    for experiment in choices("experiment"):
        study, _, member = experiment.rpartition("/")
        if study and member:
            found.setdefault(study, []).append(experiment)
            if study not in NOT_DOWNLOADED:
                found[EVERYTHING].append(experiment)
    return found


def values_of(group: str) -> list[str]:
    """Return the valid values of a group: its files, and for experiments also the studies."""
    return [*choices(group), *(studies() if group == "experiment" else ())]
