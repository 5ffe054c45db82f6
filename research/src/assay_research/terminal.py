"""Terminal output and signals: aligned tables, stop requests by signal, and output that survives a lost terminal."""

import signal
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TextIO


class ResilientStream:
    """Text stream that discards output once its reader is gone, instead of raising OSError.

    Args:
        stream: stream of the terminal or pipe.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.lost = False

    def write(self, text: str) -> int:
        """Write the text, or discard it if the reader is gone."""
        try:
            self.stream.write(text)
        except OSError:
            self.lost = True
        return len(text)

    def flush(self) -> None:
        """Flush the stream; do nothing if the reader is gone."""
        try:
            self.stream.flush()
        except OSError:
            self.lost = True

    def isatty(self) -> bool:
        """Return True if the stream is a terminal that is still connected."""
        return not self.lost and self.stream.isatty()

    def fileno(self) -> int:
        """Return the file descriptor of the stream, from which the terminal's width is read."""
        return self.stream.fileno()


@dataclass
class Stop:
    """Stop request: number of the signal that requested it; None if there was none."""

    signal: int | None = None


@contextmanager
def resilient() -> Iterator[Stop]:
    """Survive a lost terminal, and turn the first SIGTERM or Ctrl-C into a stop request.

    Yields:
        The stop request, which is updated when a signal arrives. A second signal ends the process at once.
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
        with redirect_stdout(ResilientStream(sys.stdout)), redirect_stderr(ResilientStream(sys.stderr)):
            yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def aligned(rows: Iterable[Sequence[str]], right: Collection[int] = ()) -> str:
    """Format a table as text, one line per row, columns two spaces apart.

    Args:
        rows: cells of each row, all rows of one length.
        right: indices of the right-aligned columns.
    """
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = [str.rjust if column in right else str.ljust for column in range(len(widths))]
    return "".join(
        "  ".join(pad(cell, width) for pad, cell, width in zip(sides, row, widths, strict=True)).rstrip() + "\n"
        for row in lines
    )


def say(text: str, end: str = "\n") -> None:
    """Print text on standard output and flush."""
    sys.stdout.write(text + end)
    sys.stdout.flush()
