"""`pip:`, files inside a wheel of the user's package index. Nothing is installed and no code of it runs.

The wheel is downloaded resumably from where the index says it is. What that cannot read (a private index
whose password is in a keyring, wheels of one platform) pip downloads itself: correct, but without bytes
counted or resumed.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

import httpx

from engines.errors import SourceUnavailable, UnsafeSource
from engines.models import disk
from engines.models.download import download
from engines.models.manifest import safe_path
from engines.models.progress import DOWNLOADING, EXTRACTING, Progress
from engines.models.reference import PipReference
from engines.models.sources import Plan, index
from engines.models.staging import Workspace


class PipSource:
    def __init__(self, reference: PipReference) -> None:
        self._reference = reference
        self._config: index.PipConfig | None = None
        self._wheel: index.Wheel | None = None

    def plan(self) -> Plan:
        config = self._config = index.pip_config()
        with index.http_client(config) as client:
            wheel = index.find_wheel(client, config, self._reference.package, self._reference.version)
        self._wheel = wheel
        # The wheel and what is unpacked from it are on the disk together; models hardly compress.
        return Plan(str(self._reference), 2 * (wheel and wheel.size_bytes or 0))

    def fetch(self, work: Workspace, progress: Progress) -> None:
        target = work.scratch / "package.whl"
        if not target.exists():
            self._download(target, progress)
        self._unpack(target, work, progress)

    def _download(self, target: Path, progress: Progress) -> None:
        wheel, pin = self._wheel, self._reference.wheel_sha256
        if wheel is None or wheel.local_path is not None:
            self._pip_download(target, progress)
            if pin:
                disk.check(target, f"sha256:{pin}", progress, target.name)
            return
        expected = pin or wheel.sha256
        assert self._config is not None
        with index.http_client(self._config) as client:
            try:
                download(
                    client,
                    wheel.url,
                    target,
                    name=wheel.filename,
                    expected_hash=expected and f"sha256:{expected}",
                    size_bytes=wheel.size_bytes,
                    progress=progress,
                )
            except httpx.HTTPError as error:
                raise SourceUnavailable(f"{wheel.filename} cannot be downloaded: {error}") from error

    def _pip_download(self, target: Path, progress: Progress) -> None:
        wanted = f"{self._reference.package}=={self._reference.version}"
        progress(DOWNLOADING, wanted)
        folder = target.parent / "pip"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
        command += ["--only-binary=:all:", "--disable-pip-version-check", "--dest", str(folder), wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(folder.glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            reason = next(
                (line for line in reversed(done.stderr.splitlines()) if line.strip()), "no wheel came"
            )
            raise SourceUnavailable(
                f"pip cannot download {wanted}: {reason.removeprefix('ERROR: ')}; check the network and "
                "pip's index settings (`python -m pip config list`)"
            )
        wheels[0].rename(target)

    def _unpack(self, wheel: Path, work: Workspace, progress: Progress) -> None:
        path, pins = self._reference.path, self._reference.files_sha256
        try:
            with zipfile.ZipFile(wheel) as archive:
                members = chosen(archive.infolist(), path)
                if not members:
                    raise SourceUnavailable(
                        f"{self._reference.package} {self._reference.version} has no {path}"
                    )
                missing = sum(
                    member.file_size for name, member in members.items() if not (work.files / name).exists()
                )
                disk.require_space(work.folder, missing)
                with disk.write_errors_explained(work.folder, missing):
                    for name, member in members.items():
                        _extract(archive, member, work, name, pins.get(member.filename), progress)
        except zipfile.BadZipFile as error:
            wheel.unlink()
            raise SourceUnavailable(f"{wheel.name} is not a whole wheel ({error}); pull again") from error


def chosen(members: list[zipfile.ZipInfo], path: str) -> dict[str, zipfile.ZipInfo]:
    """The members that `path` names, a file or a folder, by their path in the model. Raises UnsafeSource."""
    found = {}
    for member in members:
        if member.is_dir():
            continue
        try:
            name = safe_path(member.filename)
        except ValueError as error:
            raise UnsafeSource(f"the wheel is not safe to unpack: {error}") from error
        if name == path:
            return {name.rpartition("/")[2]: member}
        relative = name.removeprefix(path + "/")
        if relative != name and not any(part.startswith(".") for part in relative.split("/")):
            found[relative] = member
    return found


def _extract(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    work: Workspace,
    name: str,
    pin: str | None,
    progress: Progress,
) -> None:
    target = work.files / name
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = work.scratch / "extract.part"
    done = 0
    # zipfile checks each member's CRC on the way.
    with archive.open(member) as packed, part.open("wb") as unpacked:
        while chunk := packed.read(disk.CHUNK_BYTES):
            unpacked.write(chunk)
            done += len(chunk)
            progress(EXTRACTING, name, done, member.file_size)
    if pin is not None:
        disk.check(part, f"sha256:{pin}", progress, name)
    part.rename(target)
