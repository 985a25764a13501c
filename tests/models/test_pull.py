"""What every pull promises, whatever its source; shown with a hub and with local folders."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from engines.errors import (
    BadReference,
    DiskFull,
    HashMismatch,
    ModelNotFound,
    PullError,
    UnsupportedModel,
)
from engines.models.download import download
from engines.models.progress import DONE, WAITING, silent
from engines.models.pull import pull
from engines.models.staging import publish
from engines.models.store import ModelStore
from tests.models.file_server import Hold
from tests.models.tiny_models import LLM_CONFIG, gguf, ir, write

REPO = "owner/tiny-int4-ov"
MEGABYTE = 1_000_000


def leftovers(store: ModelStore) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_pulled_model_is_described_and_whole(store, tmp_path):
    seen = []
    source = write(tmp_path / "qwen3-0.6b-int4", ir(LLM_CONFIG, weights_bytes=1000))
    made = pull(store, f"dir:{source}", progress=lambda status, *_: seen.append(status))
    assert made.name == "qwen3-0.6b-int4"
    assert (made.kind, made.format, made.family) == ("llm", "ir", "qwen3")
    assert (made.parameter_size, made.quantization) == ("0.6B", "INT4")
    assert made.context_tokens == 40960
    assert made.devices == ("CPU", "GPU", "NPU")
    assert seen[-1] == DONE
    store.verify(made.name)


def test_a_gguf_never_goes_to_the_npu(store, tmp_path):
    made = pull(store, f"dir:{write(tmp_path, {'tiny.gguf': gguf()})}/tiny.gguf")
    assert made.name == "tiny"
    assert made.devices == ("CPU", "GPU")
    assert (made.context_tokens, made.family) == (2048, "llama")
    assert (made.parameter_size, made.quantization) == ("135M", "Q4_1")


def test_a_model_that_is_there_is_not_fetched_again(store, hub):
    hub.add_repo(REPO, ir(LLM_CONFIG))
    made = pull(store, f"hf:{REPO}")
    hub.files.clear()
    assert pull(store, f"hf:{REPO}") == made


def test_another_source_under_the_same_name_replaces_the_model(store, tmp_path):
    one = write(tmp_path / "one", ir(LLM_CONFIG))
    two = write(tmp_path / "two", ir(LLM_CONFIG, weights_bytes=128))
    pull(store, f"dir:{one}", name="tiny")
    pull(store, f"dir:{two}", name="tiny")
    assert store.get("tiny").source == f"dir:{two}"
    store.verify("tiny")


def test_two_pulls_at_once_fetch_once_and_both_get_the_model(store, hub):
    # Given a pull that is in the middle of a file
    hub.add_repo(REPO, ir(LLM_CONFIG, weights_bytes=MEGABYTE))
    weights = hub.path(REPO, "openvino_model.bin")
    hold = hub.hold[weights] = Hold(MEGABYTE // 2)
    made = []
    waiting = threading.Event()
    first = threading.Thread(target=lambda: made.append(pull(store, f"hf:{REPO}")))
    first.start()
    assert hold.reached.wait(20)

    # When a second pull of the same model comes and waits
    def note(status, *_):
        if status == WAITING:
            waiting.set()

    second = threading.Thread(target=lambda: made.append(pull(store, f"hf:{REPO}", progress=note)))
    second.start()
    assert waiting.wait(20)
    assert store.list() == []

    # Then both end with the one model, and each byte came once
    hold.release.set()
    first.join(20)
    second.join(20)
    assert made == [store.get(REPO)] * 2
    assert hub.sent[weights] == MEGABYTE


def test_a_killed_pull_shows_nothing_and_the_next_one_goes_on_from_its_bytes(store, hub):
    # Given a pull in another process, that has written half a file
    hub.add_repo(REPO, ir(LLM_CONFIG, weights_bytes=MEGABYTE))
    weights = hub.path(REPO, "openvino_model.bin")
    hold = hub.hold[weights] = Hold(MEGABYTE // 2)
    code = (
        "import sys, pathlib\n"
        "from engines.models.pull import pull\n"
        "from engines.models.store import ModelStore\n"
        "def tell(status, file=None, completed_bytes=0, total_bytes=0):\n"
        "    print(file, completed_bytes, flush=True)\n"
        "pull(ModelStore(pathlib.Path(sys.argv[1])), sys.argv[2], progress=tell)"
    )
    command = [sys.executable, "-c", code, str(store.root), f"hf:{REPO}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(line == f"openvino_model.bin {MEGABYTE // 2}\n" for line in process.stdout)

        # When it is killed
        process.kill()
    hold.release.set()

    # Then nothing is visible, and the next pull asks for the rest only
    assert store.list() == []
    with pytest.raises(ModelNotFound):
        store.get(REPO)
    pull(store, f"hf:{REPO}")
    store.verify(REPO)
    assert hub.ranges[weights] == [None, f"bytes={MEGABYTE // 2}-"]


def test_a_pull_that_its_caller_stops_can_be_continued(store, hub):
    hub.add_repo(REPO, ir(LLM_CONFIG, weights_bytes=MEGABYTE))
    weights = hub.path(REPO, "openvino_model.bin")

    def stop(status, file=None, completed_bytes=0, total_bytes=0):
        if file == "openvino_model.bin" and completed_bytes >= MEGABYTE // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(store, f"hf:{REPO}", progress=stop)
    assert store.list() == []
    seen = []
    pull(store, f"hf:{REPO}", progress=lambda *step: seen.append(step))
    resumed = hub.ranges[weights][1]
    assert resumed is not None
    assert int(resumed.removeprefix("bytes=").rstrip("-")) >= MEGABYTE // 2
    first = next(step for step in seen if step[1:2] == ("openvino_model.bin",))
    assert MEGABYTE // 2 < first[2] <= first[3] == MEGABYTE


def test_a_wrong_hash_is_refused_and_leaves_nothing(store, hub):
    hub.add_repo(REPO, ir(LLM_CONFIG, weights_bytes=MEGABYTE))
    weights = hub.path(REPO, "openvino_model.bin")
    hub.files[weights] = hub.files[weights][:-1] + b"!"
    with pytest.raises(HashMismatch, match="openvino_model.bin"):
        pull(store, f"hf:{REPO}")
    assert leftovers(store) == []
    assert store.list() == []


def test_a_small_file_that_was_changed_on_the_way_is_refused_too(store, hub):
    hub.add_repo(REPO, ir(LLM_CONFIG))
    config = hub.path(REPO, "config.json")
    hub.files[config] = hub.files[config].replace(b"Qwen3", b"Evil3")
    with pytest.raises(HashMismatch, match=r"config\.json has the git hash"):
        pull(store, f"hf:{REPO}")
    assert leftovers(store) == []


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(store, hub, monkeypatch):
    hub.add_repo(REPO, ir(LLM_CONFIG, weights_bytes=MEGABYTE))
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFull, match="1,000 are free") as full:
        pull(store, f"hf:{REPO}")
    assert full.value.needed_bytes > MEGABYTE
    assert full.value.free_bytes == 1000
    assert not hub.sent


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_up_in_mid_file_is_a_clear_error(hub, tmp_path):
    hub.files["/weights"] = b"x" * MEGABYTE
    (tmp_path / "weights.part").symlink_to("/dev/full")
    with httpx.Client() as client, pytest.raises(DiskFull, match="1,000,000 more bytes are needed"):
        download(
            client,
            f"{hub.url}/weights",
            tmp_path / "weights",
            name="weights",
            expected_hash=None,
            size_bytes=None,
            progress=silent,
        )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_may_not_be_written_is_a_clear_error(store, tmp_path):
    source = write(tmp_path / "tiny", ir(LLM_CONFIG))
    store.root.mkdir()
    store.root.chmod(0o500)
    with pytest.raises(PullError, match="may not be written"):
        pull(store, f"dir:{source}")


@pytest.mark.parametrize("content", [b"", b"GGUF", gguf()[:100], b"<html>", gguf(padding_bytes=0)])
def test_a_mangled_gguf_is_refused_before_openvino_sees_it(store, tmp_path, content):
    with pytest.raises(UnsupportedModel, match="not a whole GGUF"):
        pull(store, f"dir:{write(tmp_path, {'tiny.gguf': content})}/tiny.gguf")
    assert leftovers(store) == []


@pytest.mark.parametrize(
    "reference", ["hf:", "hf:alone", "hf:a/../b", "pip:x", "pip:x==1", "pip:x==1/../y", "dir:"]
)
def test_a_source_that_is_not_one_is_told_how_to_write_it(store, reference):
    with pytest.raises(BadReference):
        pull(store, reference)


def test_an_unknown_name_is_answered_with_the_nearest_ones(store):
    with pytest.raises(ModelNotFound, match="smollm2:135m"):
        pull(store, "smollm:135m")
    with pytest.raises(ModelNotFound, match="npu-proxy pull hf:OpenVINO/Some-Model"):
        pull(store, "OpenVINO/Some-Model")


def test_a_publish_sweeps_what_dead_processes_left(store, tmp_path):
    write(
        store.root / ".staging", {"tiny+0123456789ab/files/old": b"x", "other+0123456789ab/files/new": b"y"}
    )
    publish(store.root, "tiny", write(tmp_path / "ready", {"a/b": b"z"}))
    assert (store.root / "tiny" / "a" / "b").read_bytes() == b"z"
    assert [path.name for path in (store.root / ".staging").iterdir()] == ["other+0123456789ab"]
