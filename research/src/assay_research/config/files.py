"""The files of ``conf``, and the studies that its folders of experiments are."""

from pathlib import Path

CONF = Path(__file__).parents[1] / "conf"

EVERYTHING = "everything"

BROUGHT = frozenset({"bccd"})
"""Studies on data that nothing downloads; `EVERYTHING`, whose members share one data set, leaves them out."""


def choices(group: str) -> list[str]:
    """Names of a group's files, ``a`` or ``folder/a``; those that begin with _ are parts of others."""
    found = (path.relative_to(CONF / group).with_suffix("") for path in (CONF / group).rglob("*.yaml"))
    return sorted(path.as_posix() for path in found if not path.name.startswith("_"))


def studies() -> dict[str, list[str]]:
    """The experiments of each study, which is a folder of them; and ``everything``, all classifiers that are in one."""
    found: dict[str, list[str]] = {EVERYTHING: []}
    for experiment in choices("experiment"):
        study, _, member = experiment.rpartition("/")
        if study and member:
            found.setdefault(study, []).append(experiment)
            if study not in BROUGHT:
                found[EVERYTHING].append(experiment)
    return found


def values_of(group: str) -> list[str]:
    """What may be given to a group: a file of it, or a study where it is of experiments."""
    return [*choices(group), *(studies() if group == "experiment" else ())]
