"""How many tokens an image takes, by each way in which models tell it."""

import json

import pytest

from engines.image_tokens import AROUND_TOKENS, UNKNOWN_TOKENS, image_tokens, resized_tokens

SEEN = {"vision_config": {"image_size": 448, "patch_size": 14}}


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"model_type": "llava", "image_seq_length": 576, **SEEN}, 576),
        ({"model_type": "gemma3", "mm_tokens_per_image": 256}, 256),
        ({"model_type": "internvl_chat", "downsample_ratio": 0.5, "max_dynamic_patch": 12, **SEEN}, 13 * 256),
        ({"model_type": "minicpmv", "query_num": 64}, 640),
        ({"model_type": "new", **SEEN}, 1024),
        ({"model_type": "new"}, UNKNOWN_TOKENS),
        ({"vision_config": [], "image_seq_length": -1}, UNKNOWN_TOKENS),
    ],
)
def test_a_models_files_tell_what_an_image_takes(tmp_path, config, tokens):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert image_tokens(tmp_path)(640, 480) == tokens + AROUND_TOKENS


def test_the_tiny_llava_has_sixteen(models_dir):
    assert image_tokens(models_dir / "tiny-llava")(5, 5) == 16 + AROUND_TOKENS


def test_qwens_go_by_size(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    size = {"patch_size": 14, "merge_size": 2, "min_pixels": 3136, "max_pixels": 12_845_056}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(size))
    count = image_tokens(tmp_path)
    assert count(280, 560) == 10 * 20 + AROUND_TOKENS
    assert count(1, 1) == 4 + AROUND_TOKENS


def test_sizes_stay_between_least_and_most():
    for width, height in ((1, 1), (28, 28), (4096, 4096), (1280, 720)):
        tokens = resized_tokens(width, height, 28, 4 * 784, 100 * 784)
        assert 4 <= tokens <= 100


def test_no_files_are_an_unknown_model(tmp_path):
    assert image_tokens(tmp_path)(1, 1) == UNKNOWN_TOKENS + AROUND_TOKENS
