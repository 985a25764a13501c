"""Where models come from, one kind of source a module, all behind `Source`."""

from dataclasses import dataclass
from typing import Protocol

from engines.models.progress import Progress
from engines.models.staging import Workspace


@dataclass(frozen=True)
class Plan:
    """What a fetch will bring. `source` is pinned: it goes into the manifest and names the work folder.

    `size_bytes` is an upper bound of what will be written, 0 if unknown.
    """

    source: str
    size_bytes: int = 0


class Source(Protocol):
    """Both methods block and raise PullError. `fetch` can be called again after any end of the last call,
    even a kill, and then goes on from the bytes in the workspace.
    """

    def plan(self) -> Plan:
        """Asks what is there, without fetching it."""
        ...

    def fetch(self, work: Workspace, progress: Progress) -> None:
        """Leaves the model's files, verified, in `work.files` and nothing else there."""
        ...
