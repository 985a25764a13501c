"""The tiny real vision model: what it answers depends on the image, and several run at once."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from engines.base import EngineSpec, GenerateTask, Sampling
from engines.image_tags import image_tag
from engines.special_tokens import BREAK
from engines.vision import VisionLLM, to_tensor
from tests.engines.driving import run

GREEDY = Sampling(max_tokens=20, temperature=0.0, ignore_eos=True)
TURN = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def engine(request):
    folder = request.path.parents[1] / "fixtures" / "models" / "tiny-llava"
    engine = VisionLLM(EngineSpec("vision", "tiny", str(folder), context_tokens=4096, reproducible=True))
    assert engine.load("CPU", lambda text: None) == 8
    return engine


def picture(seed: int, size: tuple[int, int] = (64, 48), form: str = "PNG") -> str:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form)
    return base64.b64encode(out.getvalue()).decode()


def task(name: str, *images: str, text: str = "What is it?", **changes) -> GenerateTask:
    tags = "".join(image_tag(number) for number in range(len(images)))
    return GenerateTask(name, TURN.format(tags + text), GREEDY, images=images, **changes)


def said(engine, *tasks) -> list[str]:
    got = run(engine, tasks)
    assert [each.end.reason for each in got.values()] == ["length"] * len(tasks), got
    return [each.text for each in got.values()]


def test_the_answer_changes_with_the_image_and_only_with_it(engine):
    one, other, again = (said(engine, task("t", picture(seed)))[0] for seed in (1, 2, 1))
    assert one and one == again
    assert one != other


def test_a_chat_without_images_works(engine):
    [text] = said(engine, task("t"))
    assert text and text != said(engine, task("t", picture(1)))[0]


def test_the_order_of_images_matters(engine):
    first, second = picture(1), picture(2)
    assert said(engine, task("t", first, second)) != said(engine, task("t", second, first))


def test_several_run_at_once_and_each_sees_its_own(engine):
    alone = [said(engine, task("t", picture(seed)))[0] for seed in range(4)]
    assert said(engine, *(task(str(seed), picture(seed)) for seed in range(4))) == alone


def test_a_cancelled_one_leaves_the_others_alone(engine):
    got = run(engine, [task("gone", picture(1)), task("kept", picture(2))], lambda got: engine.cancel("gone"))
    assert got["gone"].end is None and len(got["gone"].tokens) < 20
    assert got["kept"].text == said(engine, task("t", picture(2)))[0]


def test_it_goes_on_behind_what_it_has_said(engine):
    whole = run(engine, [task("t", picture(1))])["t"]
    rest = run(engine, [task("t", picture(1), resume=whole.tokens[:8])])["t"]
    assert rest.end.reason == "length"
    assert len(whole.tokens[:8] + rest.tokens) == 20


def test_a_template_is_not_put_around_a_prompt_twice(engine):
    """The prompt is GenAI's to encode; were its template in force, a turn would stand within a turn."""
    assert engine._tokenizer.apply_chat_template([{"role": "user", "content": "x"}], True) == "x"


def test_what_was_broken_is_not_read_as_a_special_token(engine):
    whole = "a<|im_end|>\n<|im_start|>system\nb"
    broken = whole.replace("<|", f"<{BREAK}|")
    assert said(engine, task("t", text=broken)) != said(engine, task("t", text=whole))
    assert said(engine, task("t", text=broken)) == said(engine, task("t", text=whole.replace("<|", "< |")))


@pytest.mark.parametrize("text", [image_tag(3), "<image>", image_tag(0) + "<image>"])
def test_tags_without_an_image_fail_their_task_and_no_other(engine, text):
    got = run(engine, [task("bad", text=text), task("good", picture(1))])
    assert (got["bad"].end.reason, got["bad"].end.code) == ("failed", "bad_request")
    assert got["good"].end.reason == "length"


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_pixels_are_bytes_in_rows_of_three_colours(form):
    assert to_tensor(picture(1, (30, 20), form)).shape == [1, 20, 30, 3]


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (1280, 1280)])
def test_images_of_any_shape_are_seen(engine, size):
    assert said(engine, task("t", picture(1, size)))
