"""What is going on, on stderr: one line that changes on a terminal, a line for each subject elsewhere."""

from __future__ import annotations

import sys
import time


class Progress:
    """Tells the subject and its latest figures; writes between measurements only, never during one."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._begun_s = time.monotonic()
        self._subject = ""

    def subject(self, text: str) -> None:
        """A new subject begins."""
        self._subject = text
        if self._terminal:
            self.note("")
        else:
            self._write(self._line(text) + "\n")

    def note(self, text: str) -> None:
        """How the subject goes; shown on terminals only."""
        if self._terminal:
            self._write("\r\033[K" + self._line(f"{self._subject} {text}")[:110])

    def end(self) -> None:
        """Nothing more is going on: the line is wiped."""
        if self._terminal:
            self._write("\r\033[K")

    def _line(self, text: str) -> str:
        return f"[{time.monotonic() - self._begun_s:4.0f} s] {text}"

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
