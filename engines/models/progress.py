"""What a pull tells while it runs, in the words of Ollama's /api/pull, so that a stream passes them on."""

from typing import Protocol

STARTING = "pulling manifest"
WAITING = "waiting for another pull of this model"
DOWNLOADING = "downloading"
EXTRACTING = "extracting"
COPYING = "copying"
VERIFYING = "verifying sha256 digest"
CONVERTING = "converting to OpenVINO IR"
WRITING = "writing manifest"
DONE = "success"


class Progress(Protocol):
    """Called often, from the thread that pulls; may raise to stop the pull, which can then be continued.

    `file` is None for a step that is not about one file. `total_bytes` is 0 while unknown. `completed_bytes`
    starts at what an interrupted pull had left.
    """

    def __call__(
        self, status: str, file: str | None = None, completed_bytes: int = 0, total_bytes: int = 0
    ) -> None: ...


def silent(status: str, file: str | None = None, completed_bytes: int = 0, total_bytes: int = 0) -> None:
    """A Progress that tells nobody."""
