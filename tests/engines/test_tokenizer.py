"""Counting prompts: exact where it matters, bounded always."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import PromptError
from engines.slices import SLICE_CHARS, groups
from engines.tokenizer import FakeTokenizer, ModelTokenizer

FAR = 10**9


@pytest.fixture(scope="module")
def models():
    return Path(__file__).parents[1] / "fixtures" / "models"


@pytest.fixture(scope="module")
def llama(models):
    return ModelTokenizer(models / "tiny-llama")


@pytest.fixture(scope="module")
def bert(models):
    return ModelTokenizer(models / "tiny-embedder")


def exact(tokenizer, text, special=False) -> int:
    return int(tokenizer._tokenizer.encode([text], add_special_tokens=special).attention_mask.data.sum())


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=6))
def test_short_texts_are_counted_exactly_one_by_one_or_together(llama, texts):
    assert llama.count(texts, FAR) == [exact(llama, text) for text in texts]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_empty_texts_are_counted_each(llama, bert, count):
    assert llama.count([""] * count, FAR) == [0] * count
    assert bert.count([""] * count, FAR, special=True) == [2] * count


def test_special_tokens_are_counted_once(bert):
    text = "the fox jumps over the dog " * 2_000
    assert bert.count(["fox"], FAR, special=True)[0] == bert.count(["fox"], FAR)[0] + 2
    assert bert.count([text], FAR, special=True)[0] == bert.count([text], FAR)[0] + 2


@pytest.mark.parametrize("text", ["the fox jumps. ", "日本語", "🎉", "x", "a b"])
def test_a_long_text_is_counted_within_a_few_tokens_a_slice(llama, text):
    whole = text * (3 * SLICE_CHARS // len(text) + 5)
    slices = len(whole) // SLICE_CHARS + 1
    assert abs(llama.count([whole], FAR)[0] - exact(llama, whole)) <= 4 * slices


def test_counting_stops_soon_after_the_limit(llama, monkeypatch):
    sizes = []
    lengths = llama._lengths

    def watched(texts, special):
        sizes.append(len(texts[0]))
        return lengths(texts, special)

    monkeypatch.setattr(llama, "_lengths", watched)
    [count] = llama.count(["fox " * 1_000_000], 100)
    assert 100 < count <= SLICE_CHARS
    assert sizes == [SLICE_CHARS]


@pytest.mark.parametrize("limit", [1, 5, 2000])
def test_what_is_over_the_limit_counts_as_more_and_what_is_at_it_does_not(llama, limit):
    text = "a" + " a" * (limit - 1)
    assert exact(llama, text) == limit
    assert llama.count([text, text + " a", text + " a" * 50], limit) == [limit, limit + 1, limit + 50]


class Cutting:
    """OpenVINO's tokenizer as some models have it: a character a token, and all but the last `at` are dropped."""

    class _Encoded:
        def __init__(self, mask):
            self.attention_mask = type("Tensor", (), {"data": mask})

    def __init__(self, at):
        self.at = at

    def encode(self, texts, add_special_tokens):
        counts = [min(len(text) + 2 * add_special_tokens, self.at) for text in texts]
        mask = np.zeros((len(texts), max(counts)), dtype=np.int64)
        for row, count in zip(mask, counts, strict=True):
            row[:count] = 1
        return self._Encoded(mask)


def cutting(at) -> ModelTokenizer:
    tokenizer = object.__new__(ModelTokenizer)
    tokenizer._tokenizer = Cutting(at)
    tokenizer._cuts_at = tokenizer._find_cut()
    return tokenizer


@pytest.mark.parametrize("at", [256, 8192, 20_000, 65_000])
def test_a_tokenizer_that_cuts_silently_is_found_out(at):
    """Its count is its own limit for whatever is longer: taken for the truth, a prompt would lose its beginning."""
    tokenizer = cutting(at)
    assert tokenizer._cuts_at == at
    fits, too_long = "x" * min(at - 1, SLICE_CHARS), "x" * (at + 1)
    assert tokenizer.count([fits], at) == [len(fits)]
    assert tokenizer.count([too_long], at) == [at + 1]


def test_a_cut_text_among_others_is_found_too():
    tokenizer = cutting(256)
    assert tokenizer.count(["x" * 10, "x" * 300, "x" * 255], 256) == [10, 257, 255]


def test_a_tokenizer_that_does_not_cut_takes_texts_of_many_tokens(llama):
    """A rare script takes up to four tokens a character, more than a slice of words ever has."""
    text = "🎉" * SLICE_CHARS
    assert exact(llama, text) > 2 * SLICE_CHARS
    assert llama.count([text], FAR) == [exact(llama, text)]


@given(texts=st.lists(st.integers(0, 3 * SLICE_CHARS).map(lambda n: "x" * n), max_size=8))
def test_groups_keep_the_order_and_hold_no_more_than_a_slice(texts):
    made = list(groups(texts))
    assert [text for group in made for text in group] == texts
    assert all(len(group) == 1 or len(group) * max(map(len, group)) <= SLICE_CHARS for group in made)


def test_a_conversation_becomes_a_prompt(llama):
    prompt = llama.render([{"role": "user", "content": "Hi <b>"}])
    assert prompt == "<|im_start|>user\nHi <b><|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("messages", [[], [{"role": "user", "content": {"a": [1]}}]])
def test_messages_a_template_does_not_take_are_a_prompt_error(llama, messages):
    try:
        prompt = llama.render(messages)
    except PromptError as error:
        assert "/" not in str(error).replace("chat template", "")
    else:
        assert "None" not in prompt


def test_tokens_are_decoded_and_foreign_ones_refused(llama):
    ids = llama._tokenizer.encode("Hello", add_special_tokens=False).input_ids.data[0].tolist()
    assert llama.decode(ids) == "Hello"
    for foreign in (-1, 10**6, 2**40):
        with pytest.raises(PromptError, match="run from 0 to"):
            llama.decode([foreign])


def test_the_fake_counts_words():
    assert FakeTokenizer().count(["a b", "", "a b c d"], 3) == [2, 0, 4]
