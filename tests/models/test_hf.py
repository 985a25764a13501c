import pytest

from engines.errors import SourceUnavailable, UnsupportedModel
from engines.models.download import MAX_IDLE_ATTEMPTS
from engines.models.pull import pull
from engines.models.sources.hf import wanted
from tests.models.hub_server import COMMIT
from tests.models.tiny_models import LLM_CONFIG, gguf, ir

REPO = "owner/tiny-int4-ov"
MEGABYTE = 1_000_000


def test_a_repo_is_pinned_to_its_commit(store, hub):
    hub.add_repo(REPO, ir(LLM_CONFIG))
    made = pull(store, f"hf:{REPO}@main")
    assert made.name == REPO
    assert made.source == f"hf:{REPO}@{COMMIT}"


def test_a_connection_that_breaks_in_mid_file_goes_on_where_it_broke(store, hub):
    hub.add_repo(REPO, ir(LLM_CONFIG, weights_bytes=MEGABYTE))
    weights = hub.path(REPO, "openvino_model.bin")
    hub.cut_after[weights] = 300_000
    pull(store, f"hf:{REPO}")
    store.verify(REPO)
    assert hub.ranges[weights] == [None, "bytes=300000-"]
    assert hub.sent[weights] == MEGABYTE


def test_a_server_that_knows_no_ranges_sends_the_file_anew(store, hub):
    hub.add_repo(REPO, ir(LLM_CONFIG, weights_bytes=MEGABYTE))
    weights = hub.path(REPO, "openvino_model.bin")
    hub.ignore_range = True
    hub.cut_after[weights] = 300_000
    pull(store, f"hf:{REPO}")
    store.verify(REPO)
    assert hub.sent[weights] == MEGABYTE + 300_000


def test_a_server_that_is_busy_is_asked_again(store, hub):
    hub.add_repo(REPO, ir(LLM_CONFIG))
    hub.fail[hub.path(REPO, "openvino_model.bin")] = 503
    pull(store, f"hf:{REPO}")
    store.verify(REPO)


def test_a_server_that_brings_nothing_is_given_up(store, hub):
    hub.add_repo(REPO, ir(LLM_CONFIG))
    weights = hub.path(REPO, "openvino_model.bin")
    hub.broken.add(weights)
    with pytest.raises(SourceUnavailable, match="broke off at 0 bytes"):
        pull(store, f"hf:{REPO}")
    assert len(hub.ranges[weights]) == MAX_IDLE_ATTEMPTS


def test_the_token_goes_to_the_hub(store, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.add_repo(REPO, ir(LLM_CONFIG))
    pull(store, f"hf:{REPO}")
    for path in (f"/api/models/{REPO}", hub.path(REPO, "openvino_model.bin")):
        headers = {name.lower(): value for name, value in hub.headers[path].items()}
        assert headers["authorization"] == "Bearer hf_secret"


def test_a_repo_that_is_not_there_says_what_to_check(store, hub):
    with pytest.raises(SourceUnavailable, match="no repo owner/nothing"):
        pull(store, "hf:owner/nothing")


def test_a_hub_that_is_not_there_says_what_to_check(store, hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceUnavailable, match="did not answer"):
        pull(store, f"hf:{REPO}")


def test_one_file_of_a_repo_stands_alone(store, hub):
    hub.add_repo("owner/many", {"a/small.gguf": gguf(), "a/large.gguf": gguf(100_000), "config.json": b"{}"})
    with pytest.raises(UnsupportedModel, match=r"pull one: hf:owner/many/a/large\.gguf"):
        pull(store, "hf:owner/many")
    made = pull(store, "hf:owner/many/a/small.gguf")
    assert [file.path for file in made.files] == ["small.gguf"]


def test_only_the_files_that_are_needed_are_fetched():
    small = ["1_Pooling/config.json", "config.json", "tokenizer.json", "chat_template.jinja", "LICENSE"]
    heavy = ["pytorch_model.bin", "model.safetensors", "onnx/model.onnx", "openvino/openvino_model.bin"]
    model = ["openvino_model.xml", "openvino_model.bin", "openvino_tokenizer.xml"]
    assert set(wanted(small + heavy + model, REPO, None)) == set(small + model)
    assert set(wanted(small + heavy, REPO, None)) == {*small, "model.safetensors"}
    with pytest.raises(UnsupportedModel):
        wanted([*small, "pytorch_model.bin"], REPO, None)
