"""What a person sees of several processes in one terminal: their lines, each behind its process' name."""

import os
import sys
import threading
from typing import TextIO

NAME_WIDTH = 6
#: cyan, green, yellow, magenta, blue: readable on dark and light.
COLOURS = (36, 32, 33, 35, 34)
#: A line that never ends is cut, so that a child cannot fill our memory.
LONGEST_LINE_BYTES = 64 * 1024


class Console:
    """Writes whole lines to one stream; usable from any thread.

    Colours only where the stream is a terminal and NO_COLOR (no-color.org) is not set.
    """

    def __init__(self, stream: TextIO | None = None, *, coloured: bool | None = None) -> None:
        self._stream = stream or sys.stdout
        self._lock = threading.Lock()
        self._colour_of: dict[str, int] = {}
        self._coloured = (
            self._stream.isatty() and not os.environ.get("NO_COLOR") if coloured is None else coloured
        )

    def write(self, name: str, text: str) -> None:
        """Show `text`, one or more lines, as said by `name`; without a name as it is, to be copied."""
        prefix = self._prefix(name) if name else ""
        block = "".join(f"{prefix}{line}\n" for line in text.splitlines() or [""])
        with self._lock:
            try:
                self._stream.write(block)
                self._stream.flush()
            except (OSError, ValueError):
                # Whoever read our output has left (`npu-proxy serve | head`): serving goes on.
                pass

    def _prefix(self, name: str) -> str:
        plain = f"{name:<{NAME_WIDTH}} │ "
        if not self._coloured:
            return plain
        colour = self._colour_of.setdefault(name, COLOURS[len(self._colour_of) % len(COLOURS)])
        return f"\x1b[{colour}m{plain}\x1b[0m"


class Lines:
    """Cuts a stream of bytes into lines of text."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE_BYTES:
            whole.append(self._rest)
            self._rest = b""
        return [_text(line) for line in whole]

    def close(self) -> list[str]:
        """What came after the last line's end, if anything did."""
        rest, self._rest = self._rest, b""
        return [_text(rest)] if rest else []


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip("\r")
