"""The imports between the files of a member, read from their source at any depth."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path


def imported_names(source: str, package: str) -> set[str]:
    """Dotted names that a module of `package` imports, at any depth and by `importlib.import_module` too."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            names |= {".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                names.add(str(node.args[0].value))
    return names


def imports(folder: Path) -> Iterator[tuple[Path, str]]:
    """Each file of a package, relative to it, with each dotted name that it imports."""
    for path in sorted(folder.rglob("*.py")):
        package = ".".join([folder.name, *path.parent.relative_to(folder).parts])
        for name in sorted(imported_names(path.read_text(encoding="utf-8"), package)):
            yield path.relative_to(folder), name


def graph(folder: Path) -> dict[str, set[str]]:
    """The modules of a package, each with those of them that it imports, as dotted names below the package.

    Imports inside functions and under TYPE_CHECKING count. An ``__init__.py`` is a module of its own: it counts as
    imported where a name of it is, not where a module beside it is.
    """
    modules = {path.relative_to(folder).with_suffix("").as_posix().replace("/", ".") for path in folder.rglob("*.py")}
    found: dict[str, set[str]] = {module: set() for module in modules}
    for path, name in imports(folder):
        parts = name.split(".")
        if parts[0] != folder.name:
            continue
        own = path.with_suffix("").as_posix().replace("/", ".")
        inner = parts[1:]
        names = (".".join(inner), ".".join(inner[:-1]), ".".join([*inner[:-1], "__init__"]))
        target = next((each for each in names if each in modules), None)
        if target is not None and target != own:
            found[own].add(target)
    return found


def circle(modules: Mapping[str, set[str]]) -> list[str]:
    """The modules of one circle of imports, in order, the first of them again at the end; [] where there is none."""
    try:
        TopologicalSorter(modules).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def upward(modules: Mapping[str, set[str]], tiers: Mapping[str, int]) -> list[str]:
    """Imports that do not lead to a lower tier.

    Args:
        modules: of `graph`.
        tiers: of each folder or file directly in the package: a wing may import only from wings of a lower number.
    """
    return [
        f"{module} imports {target}"
        for module, targets in sorted(modules.items())
        for target in sorted(targets)
        if (here := module.split(".")[0]) != (there := target.split(".")[0]) and tiers[here] <= tiers[there]
    ]
