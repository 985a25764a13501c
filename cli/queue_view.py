"""The queue as a person sees it in a terminal: `npu-proxy queue`."""

import json
import shutil
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TextIO

from jobs.overview import Overview, SeenJob, SeenUser

#: Between two looks. Seconds.
LOOK_S = 1.0
#: A longer name is cut.
NAME_WIDTH = 20

#: A screen of its own without cursor, on which long lines are cut; and back. See xterm's control sequences.
ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
HOME, LINE_END, SCREEN_END = "\x1b[H", "\x1b[K\n", "\x1b[J"


def watch(read: Callable[[], Sequence[Overview]], screen: TextIO) -> None:
    """Show the queue anew every second, until Ctrl-C or an error of `read`; the screen is then as before. Blocks."""
    try:
        shown = lines(read())
        screen.write(ENTER)
        try:
            while True:
                fitting = fit(shown, shutil.get_terminal_size().lines - 1)
                screen.write(HOME + "".join(line + LINE_END for line in fitting) + SCREEN_END)
                screen.flush()
                time.sleep(LOOK_S)
                shown = lines(read())
        finally:
            screen.write(LEAVE)
            screen.flush()
    except KeyboardInterrupt:
        pass


def fit(shown: list[str], most: int) -> list[str]:
    """So many lines at most; when some do not fit, the last says so."""
    if len(shown) <= most:
        return shown
    kept = max(0, most - 1)
    return [*shown[:kept], f"… and {len(shown) - kept} lines more: npu-proxy queue --once"]


def document(engines: Sequence[Overview]) -> str:
    """The same for programs: one JSON object, in one line of ASCII."""
    text = json.dumps({"engines": [asdict(engine) for engine in engines]})
    return text.replace("\x7f", "\\u007f")  # The one control character that JSON lets through.


def lines(engines: Sequence[Overview]) -> list[str]:
    """The queue in lines of text without control characters, whatever users are called: first each engine, then the
    users and jobs of each."""
    tables = ((engine, _tables(engine)) for engine in engines)
    return [
        *(line for engine in engines for line in _summary(engine)),
        *(line for engine, shown in tables if shown for line in ("", f"{engine.engine}:", *shown)),
    ]


def _summary(seen: Overview) -> list[str]:
    waits = ", ".join(f"{count} {lane}" for lane, count in seen.waiting_by_lane.items())
    if sum(seen.waiting_by_lane.values()) < seen.waiting:
        waits = f"at least {waits}"  # There are more users than were counted.
    return [
        *([f"{seen.engine}: no worker"] if not seen.workers else []),
        *(
            f"{seen.engine}: {plain(worker.model, 60)}{f' on {plain(worker.device)}' if worker.device else ''}, "
            f"{worker.state}{f' ({plain(worker.progress, 60)})' if worker.progress else ''}"
            for worker in seen.workers
        ),
        f"  running {seen.running} of {seen.slots}, waiting {seen.waiting} ({waits}); a newcomer waits "
        + ("for an unknown time" if seen.newcomer_wait_s is None else f"about {seen.newcomer_wait_s:.0f} s"),
    ]


def _tables(seen: Overview) -> list[str]:
    shown: list[str] = []
    users = _more([_user(user) for user in seen.users], len(seen.users) + seen.more_users)
    running = _more([_job(job) for job in seen.running_jobs], seen.running)
    waiting = _more([_job(job) for job in seen.next_jobs], seen.waiting)
    of_jobs = ("user", "lane", "tokens", "seconds")
    for head, rows in (
        (("user", "lane", "weight", "counter", "waiting", "running", "tokens"), users),
        (("running", *of_jobs), running),
        (("next", *of_jobs), waiting),
    ):
        shown += ["", *_table(head, rows)] if rows else []
    return shown[1:]


def _user(user: SeenUser) -> tuple[str, ...]:
    counts = (user.waiting, user.running, user.tokens)
    return plain(user.user), user.lane, f"{user.weight:g}", f"+{user.counter:.0f}", *map(str, counts)


def _job(job: SeenJob) -> tuple[str, ...]:
    return job.id, plain(job.user), job.lane, str(job.tokens), f"{job.elapsed_s:.1f}"


def _more(rows: list[tuple[str, ...]], count: int) -> list[tuple[str, ...]]:
    """The rows, and one that says how many of `count` are not among them."""
    return [*rows, (f"… and {count - len(rows)} more",)] if count > len(rows) else rows


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Columns as wide as need be, numbers to the right."""
    table = [head, *rows]
    widths = [max(_columns(row[at]) for row in table if len(row) == len(head)) for at in range(len(head))]
    first_number = head.index("lane") + 1

    def padded(at: int, cell: str) -> str:
        space = " " * (widths[at] - _columns(cell))
        return space + cell if at >= first_number else cell + space

    return ["  " + "  ".join(padded(at, cell) for at, cell in enumerate(row)).rstrip() for row in table]


def _columns(text: str) -> int:
    """How wide a terminal shows it."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text if not unicodedata.combining(c))


def plain(text: str, width: int = NAME_WIDTH) -> str:
    """Text that does nothing to a terminal: what is not printable is written as in Python; cut if it is too long."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: width + 1])
    return shown if len(shown) <= width else shown[: width - 1] + "…"
