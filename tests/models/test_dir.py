import pytest

from engines.errors import BadModelName, SourceUnavailable, UnsafeSource
from engines.models.pull import pull
from tests.models.tiny_models import LLM_CONFIG, ir, write


def test_a_link_out_of_a_local_folder_is_refused(store, tmp_path):
    (tmp_path / "secret").write_text("secret")
    source = write(tmp_path / "tiny", ir(LLM_CONFIG))
    (source / "vocab.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(UnsafeSource, match=r"vocab\.txt is a link that leads out"):
        pull(store, f"dir:{source}")
    assert store.list() == []


def test_a_copy_in_the_store_does_not_change_with_its_original(store, tmp_path):
    source = write(tmp_path / "tiny", ir(LLM_CONFIG))
    pull(store, f"dir:{source}")
    (source / "openvino_model.bin").write_bytes(b"changed")
    store.verify("tiny")


def test_a_folder_whose_name_cannot_be_a_models_asks_for_one(store, tmp_path):
    source = write(tmp_path / "my model", ir(LLM_CONFIG))
    with pytest.raises(BadModelName, match="--name"):
        pull(store, f"dir:{source}")
    assert pull(store, f"dir:{source}", name="mine").name == "mine"


def test_hidden_files_are_no_part_of_a_model(store, tmp_path):
    files = ir(LLM_CONFIG)
    source = write(tmp_path / "tiny", files | {".cache/huggingface/x": b"", ".gitattributes": b""})
    made = pull(store, f"dir:{source}")
    assert {file.path for file in made.files} == set(files)


def test_a_folder_that_is_not_there_is_told(store, tmp_path):
    with pytest.raises(SourceUnavailable, match="neither a folder nor a file"):
        pull(store, f"dir:{tmp_path / 'nothing'}")
