"""Text from tokens, whatever the pieces: exactly the text, whole characters, and nothing of a stop string."""


from pathlib import Path

import openvino_genai
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engines.detokenizer import MAX_UNFINISHED_BYTES, TextStream, advance_all, finish_all, overlap

# U+FFFD is what an unfinished character looks like: it is not told from one that was meant.
CHARACTERS = st.characters(exclude_characters="\ufffd", exclude_categories=["Cs"])
TEXT = st.text(CHARACTERS, max_size=40)


class Pieces:
    """A vocabulary of byte strings; token n is piece n."""

    def __init__(self, pieces: list[bytes], errors: str) -> None:
        self.pieces = pieces
        self.errors = errors

    def decode(self, batch):
        return [b"".join(self.pieces[t] for t in tokens).decode("utf-8", self.errors) for tokens in batch]


@st.composite
def cut(draw, text=TEXT):
    """A text, and it cut into pieces of 1 to 6 bytes, as a byte-level tokenizer may."""
    whole = draw(text)
    left, pieces = whole.encode(), []
    while left:
        size = draw(st.integers(1, 6))
        pieces.append(left[:size])
        left = left[size:]
    return whole, pieces


def stream_all(decode, tokens, stop=(), group=1, stream=None) -> list[str]:
    """What is given out at each step, and at the end."""
    stream = stream or TextStream(stop=stop)
    parts = []
    for start in range(0, len(tokens), group):
        parts += advance_all(decode, [stream], [tokens[start : start + group]])
        if stream.stopped:
            return parts
    return parts + finish_all(decode, [stream])


def expected(text, stop) -> str:
    """The text up to the stop string that is complete first."""
    ends = [(at + len(s), at) for s in stop if (at := text.find(s)) >= 0]
    return text[: min(at for _, at in ends)] if ends else text


BOTH = pytest.mark.parametrize("errors", ["replace", "ignore"])


@BOTH
@settings(max_examples=150, deadline=None)
@given(case=cut(), group=st.integers(1, 4))
@example(case=("🎉🎉", [b"\xf0", b"\x9f", b"\x8e", b"\x89\xf0", b"\x9f\x8e", b"\x89"]), group=1)
def test_any_text_in_any_pieces_comes_out_as_it_went_in(errors, case, group):
    text, pieces = case
    parts = stream_all(Pieces(pieces, errors).decode, list(range(len(pieces))), group=group)
    assert "".join(parts) == text
    assert not any("\ufffd" in part for part in parts)


@BOTH
@settings(max_examples=150, deadline=None)
@given(
    case=cut(st.text(st.sampled_from("abé🎉\n"), max_size=30)),
    stop=st.lists(st.text(st.sampled_from("abé🎉\n"), min_size=1, max_size=4), max_size=3),
)
def test_nothing_of_a_stop_string_or_behind_it_ever_comes_out(errors, case, stop):
    text, pieces = case
    decode = Pieces(pieces, errors).decode
    parts = stream_all(decode, list(range(len(pieces))), tuple(stop))
    given_out = "".join(parts)
    assert text.startswith(given_out)
    assert not any(s in given_out for s in stop)
    if not any(s in text for s in stop):
        assert given_out == text
    else:
        # Which of two overlapping ones counts may depend on the pieces; that one counts does not.
        assert any(text.startswith(given_out + s) for s in stop)


@BOTH
@settings(max_examples=150, deadline=None)
@given(
    case=cut(),
    stop=st.lists(st.text(CHARACTERS, min_size=1, max_size=3), max_size=2),
    at=st.floats(0, 1, exclude_max=True),
)
def test_a_stream_that_is_resumed_gives_the_same_rest(errors, case, stop, at):
    """As a worker does it: the tokens that were sent, up to some update with text, are taken in at once."""
    _, pieces = case
    decode, stop = Pieces(pieces, errors).decode, tuple(stop)
    tokens = list(range(len(pieces)))
    parts = stream_all(decode, tokens, stop)
    # Updates are sent where there is text: only there another worker may go on.
    cuts = [0] + [n + 1 for n, part in enumerate(parts[: len(tokens)]) if part]
    sent = cuts[int(at * len(cuts))]
    stream = TextStream(stop=stop)
    advance_all(decode, [stream], [tokens[:sent]])
    rest = [] if stream.stopped else stream_all(decode, tokens[sent:], stop, stream=stream)
    assert "".join(rest) == "".join(parts[sent:])


def test_streams_side_by_side_do_not_mix():
    pieces = Pieces([b"a", b"\xc3", b"\xa9", b"z"], "replace")
    one, two = TextStream(), TextStream(stop=("z",))
    assert advance_all(pieces.decode, [one, two], [[1], [0]]) == ["", "a"]
    assert advance_all(pieces.decode, [one, two], [[2], [3]]) == ["é", ""]
    assert (one.stopped, two.stopped) == (False, True)
    assert finish_all(pieces.decode, [one, two]) == ["", ""]


def test_nothing_is_decoded_for_no_stream():
    def fail(batch):
        raise AssertionError

    assert advance_all(fail, [], []) == finish_all(fail, []) == []


def test_half_a_character_at_the_end_is_left_out():
    pieces = Pieces([b"a", b"\xf0\x9f"], "replace")
    assert stream_all(pieces.decode, [0, 1]) == ["a", "", ""]


def test_bytes_that_are_no_text_do_not_hold_the_stream_up_for_ever():
    pieces = Pieces([b"\xff", b"a"], "replace")
    parts = stream_all(pieces.decode, [0] * (MAX_UNFINISHED_BYTES + 1) + [1, 0, 1])
    assert parts == ["", "", "", 4 * "\ufffd", "a", "", "\ufffda", ""]


def test_what_begins_a_stop_string_waits_and_comes_out_when_it_was_none():
    pieces = Pieces([b"x", b"<", b"|", b"y", b"<"], "replace")
    assert stream_all(pieces.decode, [0, 1, 2, 3, 4], ("<|end|>",)) == ["x", "", "", "<|y", "", "<"]


@pytest.mark.parametrize(
    ("text", "stop", "length"), [("ab", "bc", 1), ("aa", "aaa", 2), ("aaa", "aa", 1), ("", "a", 0), ("x", "ab", 0)]
)
def test_how_much_of_a_text_may_begin_a_stop_string(text, stop, length):
    assert overlap(text, stop) == length


class Spaces:
    """A SentencePiece-like decoder: it takes the first space of whatever it is given away."""

    def decode(self, batch):
        words = [" one", " two", " three"]
        return ["".join(words[t] for t in tokens).removeprefix(" ") for tokens in batch]


def test_a_decoder_that_drops_the_first_space_loses_none_inside():
    assert "".join(stream_all(Spaces().decode, [0, 1, 2, 0])) == "one two three one"


@pytest.fixture(scope="module")
def tokenizer():
    return openvino_genai.Tokenizer(str(Path(__file__).parents[1] / "fixtures" / "models" / "tiny-llama"))


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_characters="\ufffd\0", exclude_categories=["Cs"]), max_size=20))
@example("🎉 naïve 日本語 👩‍👩‍👧 \r\n\t  x")
def test_a_real_tokenizers_tokens_give_exactly_the_text(tokenizer, text):
    tokens = tokenizer.encode(text, add_special_tokens=False).input_ids.data[0].tolist()
    whole = tokenizer.decode(tokens)
    parts = stream_all(tokenizer.decode, tokens)
    assert "".join(parts) == whole
    assert not any("\ufffd" in part for part in parts)


def test_kept_special_tokens_are_text_and_the_others_are_not():
    special = {90: "<call>", 91: "<end>"}

    def decode(sequences, skip_special_tokens=True):
        known = {} if skip_special_tokens else special
        return ["".join(known.get(i, "" if i in special else chr(i)) for i in ids) for ids in sequences]

    plain, keeps = TextStream(), TextStream(left_out=frozenset({91}))
    for token in (65, 90, 66, 91):
        texts = advance_all(decode, [plain, keeps], [[token], [token]])
        assert texts == {65: ["A", "A"], 90: ["", "<call>"], 66: ["B", "B"], 91: ["", ""]}[token]
    assert finish_all(decode, [keeps, plain]) == ["", ""]
