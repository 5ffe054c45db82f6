"""What a terminal shows and asks: tables and lines, and signals that save and stop; a lost screen stops nothing."""

import signal
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TextIO


class Unbreakable:
    """A text stream whose reader may go away: what cannot be written any more is dropped.

    Args:
        stream: the terminal or pipe.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.lost = False

    def write(self, text: str) -> int:
        """Write, or drop what nobody can read."""
        try:
            self.stream.write(text)
        except OSError:
            self.lost = True
        return len(text)

    def flush(self) -> None:
        """Flush, or drop what nobody can read."""
        try:
            self.stream.flush()
        except OSError:
            self.lost = True

    def isatty(self) -> bool:
        """Whether a person is still looking at a terminal."""
        return not self.lost and self.stream.isatty()

    def fileno(self) -> int:
        """The stream's own file descriptor, from which the terminal's width is read."""
        return self.stream.fileno()


@dataclass
class Stop:
    """Which signal asked to stop, if one did."""

    signal: int | None = None


@contextmanager
def resilient() -> Iterator[Stop]:
    """Survive a lost terminal, and turn the first SIGTERM or Ctrl-C into a request to stop.

    Yields:
        What was asked for so far. A second signal stops at once.
    """
    stop = Stop()

    def ask(number: int, _frame: object) -> None:
        stop.signal = number
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)

    handled = {signal.SIGTERM: ask, signal.SIGINT: ask}
    if hasattr(signal, "SIGHUP"):  # not on Windows
        handled[signal.SIGHUP] = signal.SIG_IGN  # type: ignore[assignment]
    before = {number: signal.signal(number, handler) for number, handler in handled.items()}
    try:
        with redirect_stdout(Unbreakable(sys.stdout)), redirect_stderr(Unbreakable(sys.stderr)):
            yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def aligned(rows: Iterable[Sequence[str]], right: Collection[int] = ()) -> str:
    """A table in columns as wide as their widest cell, two spaces apart, a line each row.

    Args:
        rows: cells, as many in each row.
        right: the columns whose cells stand at their right edge.
    """
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = [str.rjust if column in right else str.ljust for column in range(len(widths))]
    return "".join(
        "  ".join(pad(cell, width) for pad, cell, width in zip(sides, row, widths, strict=True)).rstrip() + "\n"
        for row in lines
    )


def say(text: str, end: str = "\n") -> None:
    """A line on standard output, or with another end a part of one, at once."""
    sys.stdout.write(text + end)
    sys.stdout.flush()
