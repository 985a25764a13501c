"""`hf:`, a repo of a Hugging Face hub, or of a mirror that speaks its protocol (HF_ENDPOINT).

huggingface_hub says what the repo holds and who we are (HF_TOKEN, or the user's login); the bytes come
through download.py, which goes on where a killed pull ended and counts what comes. Every file is checked:
large ones by the sha256 of their LFS entry, the others by their git hash.
"""

from dataclasses import dataclass
from urllib.parse import quote

import httpx

from engines.errors import SourceUnavailable, UnsafeSource, UnsupportedModel
from engines.models.download import download
from engines.models.manifest import safe_path
from engines.models.progress import Progress
from engines.models.reference import HfReference
from engines.models.sources import Plan
from engines.models.staging import Workspace

_SMALL = (".json", ".jinja", ".txt")
_IR = ("openvino_model.xml", "openvino_language_model.xml")


@dataclass(frozen=True)
class HubFile:
    """`expected_hash` is `sha256:HEX` or `git:HEX`; None where the hub tells none."""

    path: str
    size_bytes: int | None
    expected_hash: str | None


@dataclass(frozen=True)
class _Resolved:
    endpoint: str
    commit: str
    files: tuple[HubFile, ...]


class HfSource:
    def __init__(self, reference: HfReference) -> None:
        self._reference = reference
        self._resolved: _Resolved | None = None

    def plan(self) -> Plan:
        """One request. The commit is pinned here, so a pull that goes on tomorrow mixes no two versions."""
        resolved = self._resolved = _resolve(self._reference)
        path = f"/{self._reference.path}" if self._reference.path else ""
        return Plan(
            source=f"hf:{self._reference.repo}{path}@{resolved.commit}",
            size_bytes=sum(file.size_bytes or 0 for file in resolved.files),
        )

    def fetch(self, work: Workspace, progress: Progress) -> None:
        assert self._resolved is not None, "plan() comes first"
        base = f"{self._resolved.endpoint}/{self._reference.repo}/resolve/{self._resolved.commit}"
        timeout = httpx.Timeout(30, read=60)
        # httpx drops the token when the hub redirects to another host's storage.
        with httpx.Client(follow_redirects=True, timeout=timeout, headers=_authorization()) as client:
            for file in self._resolved.files:
                # A file of a repo has its place in the model; one picked out of a repo stands alone.
                place = file.path.rpartition("/")[2] if self._reference.path else file.path
                try:
                    download(
                        client,
                        f"{base}/{quote(file.path)}",
                        work.files / place,
                        name=file.path,
                        expected_hash=file.expected_hash,
                        size_bytes=file.size_bytes,
                        progress=progress,
                    )
                except httpx.HTTPError as error:
                    raise SourceUnavailable(f"{file.path} cannot be downloaded: {error}") from error


def wanted(paths: list[str], repo: str, path: str | None) -> list[str]:
    """The few files of a repo that are needed; repos often hold the same weights in five formats.

    `path` alone if it is given; else the OpenVINO IR of the top folder with its tokenizer, configuration and
    templates; else a single .gguf; else safetensors to convert. Raises UnsupportedModel or SourceUnavailable.
    """
    if path is not None:
        if path not in paths:
            raise SourceUnavailable(f"{repo} has no file {path}")
        return [path]
    top = [name for name in paths if "/" not in name]
    small = [name for name in top if name.endswith(_SMALL) or name.startswith("LICENSE")]
    small += [name for name in paths if name == "1_Pooling/config.json"]
    if any(name in top for name in _IR):
        return small + [
            name for name in top if name.startswith("openvino_") and name.endswith((".xml", ".bin"))
        ]
    ggufs = [name for name in paths if name.endswith(".gguf")]
    if len(ggufs) == 1:
        return ggufs
    if ggufs:
        raise UnsupportedModel(f"{repo} holds several .gguf files; pull one: hf:{repo}/{ggufs[0]}")
    if "model.safetensors" in top:
        return [*small, "model.safetensors"]
    raise UnsupportedModel(
        f"{repo} holds no OpenVINO IR, GGUF or safetensors; look for a ready model under hf:OpenVINO/…"
    )


def _resolve(reference: HfReference) -> _Resolved:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    api = HfApi(library_name="npu-proxy")
    try:
        info = api.model_info(reference.repo, revision=reference.revision, files_metadata=True, timeout=30)
    except GatedRepoError as error:
        raise SourceUnavailable(
            f"{reference.repo} asks for its licence to be accepted: do that on its page, then set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise SourceUnavailable(f"{reference.repo} has no revision {reference.revision}") from error
    except RepositoryNotFoundError as error:
        raise SourceUnavailable(
            f"the hub has no repo {reference.repo}, or it is private: check the spelling, or set HF_TOKEN"
        ) from error
    # Which HTTP library's errors come out here differs between releases of huggingface_hub.
    except Exception as error:
        raise SourceUnavailable(
            f"the hub at {api.endpoint} did not answer for {reference.repo} ({error}); "
            "check the network, or set HF_ENDPOINT to a mirror"
        ) from error
    files = {}
    for sibling in info.siblings or []:
        sha256 = sibling.lfs.sha256 if sibling.lfs else None
        git = f"git:{sibling.blob_id}" if sibling.blob_id else None
        files[sibling.rfilename] = HubFile(
            sibling.rfilename, sibling.size, f"sha256:{sha256}" if sha256 else git
        )
    chosen = wanted(sorted(files), reference.repo, reference.path)
    for path in chosen:
        try:
            safe_path(path)
        except ValueError as error:
            raise UnsafeSource(f"{reference.repo} is not safe to download: {error}") from error
    commit = info.sha or reference.revision or "main"
    return _Resolved(api.endpoint, commit, tuple(files[path] for path in chosen))


def _authorization() -> dict[str, str]:
    from huggingface_hub import get_token

    token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}
