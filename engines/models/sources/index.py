"""Finds a wheel the way the user's pip would: same indexes, same find-links, same certificates.

Why not pip itself: it can neither continue a download in a later run nor tell how many bytes have come, and
its `--dry-run --report` downloads the whole wheel to say where it is. The pages are read as the simple
repository API says (PEP 503 for HTML, PEP 691 for JSON).
"""

import ast
import os
import re
import ssl
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

import httpx

from engines.errors import SourceUnavailable

_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


@dataclass(frozen=True)
class PipConfig:
    """The part of pip's configuration that says where packages are."""

    indexes: tuple[str, ...]
    find_links: tuple[str, ...]
    certificates: str | None


@dataclass(frozen=True)
class Wheel:
    """Where a wheel is: an http(s) or file URL; hash and size as far as the index tells them."""

    url: str
    filename: str
    sha256: str | None = None
    size_bytes: int | None = None

    @property
    def local_path(self) -> Path | None:
        """The file itself, if the index is a folder of this machine."""
        parts = urlsplit(self.url)
        return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def pip_config() -> PipConfig:
    """Asks pip for its environment, files and defaults together: half a second. Empty if there is no pip."""
    # `:env:.index-url='…'`, `global.…`, `install.…`: pip lists them from the weakest to the strongest.
    settings: dict[str, str] = {}
    for line in _pip("config", "list").splitlines():
        key, equals, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if equals and section in ("global", "download", ":env:"):
            try:
                settings[option] = str(ast.literal_eval(value))
            except (ValueError, SyntaxError):
                continue
    index = settings.get("index-url")
    if index is None:
        # pip's built-in default, from the one public place that tells it.
        default = re.search(r"\(default:?\s+(https?://[^\s)]+)\)", _pip("download", "--help"))
        index = default[1] if default else ""
    no_index = settings.get("no-index", "").lower() in ("1", "true", "yes", "on")
    indexes = () if no_index else tuple((index + " " + settings.get("extra-index-url", "")).split())
    return PipConfig(indexes, tuple(settings.get("find-links", "").split()), settings.get("cert"))


def http_client(config: PipConfig) -> httpx.Client:
    """Follows redirects; reads proxies and ~/.netrc from the user's surroundings as pip does."""
    try:
        context = ssl.create_default_context(cafile=config.certificates) if config.certificates else True
    except OSError as error:
        raise SourceUnavailable(
            f"pip's certificates {config.certificates} cannot be read: {error}"
        ) from error
    timeout = httpx.Timeout(30, read=60)
    return httpx.Client(verify=context, follow_redirects=True, timeout=timeout, headers={"Accept": _ACCEPT})


def find_wheel(client: httpx.Client, config: PipConfig, package: str, version: str) -> Wheel | None:
    """The pure-Python wheel of exactly this version; None if no place that can be read has it."""
    project = re.sub(r"[-_.]+", "-", package).lower()
    pages = [f"{index.rstrip('/')}/{project}/" for index in config.indexes] + list(config.find_links)
    for page in pages:
        for wheel in _links(client, page):
            if matches(wheel.filename, project, version):
                return wheel
    return None


def matches(filename: str, project: str, version: str) -> bool:
    """Whether a file name is the wheel of `project` (normalised) at `version` for every system."""
    parts = filename.removesuffix(".whl").split("-")
    if not filename.endswith(".whl") or len(parts) not in (5, 6):
        return False
    name = re.sub(r"[-_.]+", "-", parts[0]).lower()
    return name == project and parts[1] == version and parts[-2:] == ["none", "any"]


def _links(client: httpx.Client, page: str) -> list[Wheel]:
    parts = urlsplit(page)
    if parts.scheme in ("", "file"):
        folder = Path(url2pathname(parts.path)) if parts.scheme else Path(page).expanduser()
        if folder.is_dir():
            local = [Wheel(path.resolve().as_uri(), path.name) for path in sorted(folder.glob("*.whl"))]
            index = folder / "index.html"
            return local or (parse_html(index.read_text("utf-8"), index.as_uri()) if index.is_file() else [])
        return parse_html(folder.read_text("utf-8"), folder.as_uri()) if folder.is_file() else []
    try:
        response = client.get(page)
        if response.status_code != httpx.codes.OK:
            return []
        if "json" in response.headers.get("Content-Type", ""):
            return parse_json(response.json(), str(response.url))
        return parse_html(response.text, str(response.url))
    except (httpx.HTTPError, ValueError):
        # Another index may have it; if none has, pip is asked, and says better what is wrong.
        return []


def parse_json(page: object, base: str) -> list[Wheel]:
    """The files of a PEP 691 page; entries that are not as specified are passed over."""
    files = page.get("files") if isinstance(page, dict) else None
    found = []
    for entry in files if isinstance(files, list) else []:
        match entry:
            case {"filename": str(filename), "url": str(url), "hashes": {**hashes}}:
                size, sha256 = entry.get("size"), hashes.get("sha256")
                found.append(
                    Wheel(
                        url=urljoin(base, url),
                        filename=filename,
                        sha256=sha256 if isinstance(sha256, str) else None,
                        size_bytes=size if isinstance(size, int) else None,
                    )
                )
    return found


def parse_html(page: str, base: str) -> list[Wheel]:
    """The links of a PEP 503 page; the hash is in the link's fragment."""
    reader = _Anchors()
    reader.feed(page)
    found = []
    for href in reader.hrefs:
        url, _, fragment = urljoin(base, href).partition("#")
        sha256 = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else None
        found.append(Wheel(url, unquote(urlsplit(url).path.rpartition("/")[2]), sha256))
    return found


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hrefs += [value for key, value in attrs if tag == "a" and key == "href" and value]


def _pip(*arguments: str) -> str:
    # COLUMNS: the help is wrapped to it, and a wrapped URL is two halves.
    environment = {**os.environ, "COLUMNS": "1000", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [sys.executable, "-m", "pip", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False).stdout
