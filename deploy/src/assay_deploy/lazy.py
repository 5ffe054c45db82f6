"""Public names of a package that are imported when they are first used, so that ``--help`` stays fast."""

from collections.abc import Callable, Mapping
from importlib import import_module


def lazy(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """Return a ``__getattr__`` for a package's ``__init__`` (PEP 562).

    Args:
        package: name of the package, ``__name__``.
        homes: public name -> the module below the package that defines it.
    """

    def find(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return find
