import subprocess
import sys
from pathlib import Path

import pytest

from engines.errors import BadModelName, CorruptModel, ModelNotFound
from engines.models import names
from engines.models.pull import pull
from engines.models.store import ModelStore
from tests.models.tiny_models import LLM_CONFIG, gguf, ir, write


@pytest.fixture
def source(tmp_path: Path) -> str:
    return f"dir:{write(tmp_path / 'source', ir(LLM_CONFIG))}"


def folder(store: ModelStore, name: str) -> Path:
    return store.root / names.slug(name)


def test_an_empty_store_lists_nothing_and_says_how_to_get_a_model(store):
    assert store.list() == []
    with pytest.raises(ModelNotFound, match="npu-proxy pull smollm2:135m"):
        store.get("smollm2:135m")


def test_a_model_is_found_under_every_spelling_of_its_name(store, source):
    made = pull(store, source, name="Owner/Tiny:latest")
    assert made.name == "Owner/Tiny"
    for name in ("Owner/Tiny", "owner/tiny", "Owner/Tiny:latest"):
        assert store.get(name) == made
    assert store.list() == [made]


def test_the_path_of_an_ir_model_is_its_folder_and_of_a_gguf_its_file(store, source, tmp_path):
    pull(store, source, name="ir")
    write(tmp_path / "other", {"m.gguf": gguf()})
    pull(store, f"dir:{tmp_path / 'other'}", name="one")
    assert (store.path("ir") / "openvino_model.xml").is_file()
    assert store.path("one").name == "m.gguf"
    assert store.path("one").is_file()


def test_a_removed_model_is_gone_with_all_its_files(store, source):
    pull(store, source, name="tiny")
    store.remove("tiny")
    assert store.list() == []
    assert not any((store.root / ".staging").iterdir())
    with pytest.raises(ModelNotFound):
        store.remove("tiny")


@pytest.mark.parametrize("name", ["../../etc", "/etc", "a/../../b", ""])
def test_a_hostile_name_reaches_no_file(store, name):
    for action in (store.get, store.path, store.verify, store.remove):
        with pytest.raises(BadModelName):
            action(name)


def test_a_link_out_of_the_store_is_refused(store, source, tmp_path):
    pull(store, source, name="tiny")
    outside = folder(store, "tiny").rename(tmp_path / "outside")
    folder(store, "tiny").symlink_to(outside)
    for action in (store.get, store.path, store.verify, store.remove):
        with pytest.raises(BadModelName, match="leads out of the model store"):
            action("tiny")
    assert (outside / "openvino_model.xml").exists()


def test_verify_names_the_damaged_file(store, source):
    pull(store, source, name="tiny")
    store.verify("tiny")
    weights = folder(store, "tiny") / "openvino_model.bin"
    content = weights.read_bytes()

    weights.write_bytes(content[:-1] + b"!")
    assert store.is_whole("tiny")
    with pytest.raises(CorruptModel, match="openvino_model.bin has another sha256"):
        store.verify("tiny")

    weights.write_bytes(content[:-1])
    assert not store.is_whole("tiny")
    with pytest.raises(CorruptModel, match="openvino_model.bin has 63 bytes instead of 64"):
        store.verify("tiny")

    weights.unlink()
    with pytest.raises(CorruptModel, match="openvino_model.bin is missing"):
        store.verify("tiny")


def test_a_damaged_model_is_pulled_anew(store, source):
    pull(store, source, name="tiny")
    (folder(store, "tiny") / "openvino_model.bin").unlink()
    pull(store, source, name="tiny")
    store.verify("tiny")


def test_a_corrupt_manifest_hides_no_other_model_and_can_be_removed(store, source, caplog):
    pull(store, source, name="good")
    pull(store, source, name="bad")
    (folder(store, "bad") / "manifest.json").write_text("{")
    assert [made.name for made in store.list()] == ["good"]
    assert "the manifest of bad is damaged" in caplog.text
    with pytest.raises(CorruptModel):
        store.get("bad")
    store.remove("bad")
    with pytest.raises(ModelNotFound):
        store.get("bad")


def test_a_folder_cannot_pass_for_another_model(store, source):
    pull(store, source, name="one")
    folder(store, "one").rename(folder(store, "two"))
    assert store.list() == []


def test_importing_the_store_loads_nothing_heavy():
    heavy = "transformers huggingface_hub openvino openvino_genai openvino_tokenizers numpy httpx safetensors"
    code = f"import sys, engines.models.store; print([m for m in {heavy.split()} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
