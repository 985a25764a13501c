"""No text of a caller is read as an image, nor as anything else of the pipeline's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.image_tags import image_tag, spelled, untagged, without_tags
from engines.special_tokens import BREAK


@pytest.mark.parametrize(
    "tag",
    ["<image>", "<|image_1|>", "<|image_pad|>", "<ov_genai_image_0>", "<ov_genai_video_12>", "<IMAGE>",
     "<start_of_image>", "<|vision_start|>", "<IMG_CONTEXT>", "</img>", "(<image>./</image>)", "<<image>", "<video>",
     "<|audio_3|>"],
)  # fmt: skip
def test_every_spelling_of_a_tag_is_broken(tag):
    assert tag not in untagged(f"see {tag} here")
    assert "< " in untagged(tag)


@pytest.mark.parametrize("text", ["a < b > c", "<b>", "if x<image and y>2", '<img src="x">', "List<T>", "an image"])
def test_other_text_stays(text):
    assert untagged(text) == text


@given(st.text(alphabet="<>|ov_genaimg0 ", max_size=40))
def test_no_tag_is_left_whatever_is_around_it(text):
    assert without_tags(untagged(text + image_tag(0) + text)) == untagged(text + image_tag(0) + text)


def test_what_is_in_lists_and_objects_is_reached():
    assert untagged({"<image>": ["<image>", {"a": "<image>"}, 1, None]}) == {
        "< image>": ["< image>", {"a": "< image>"}, 1, None]
    }


def test_our_own_tags_are_not_counted_as_text():
    assert without_tags(f"a{image_tag(0)}b{image_tag(11)}") == "ab"
    assert spelled(f"<{BREAK}|im_end|>") == "< |im_end|>"
