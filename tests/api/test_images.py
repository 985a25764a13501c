"""Images in requests: those of every format are served, and none that is made to hurt gets decoded."""

import base64
import io
from pathlib import Path

import httpx
import pytest
from PIL import Image

from api.config import ImageLimits
from api.images import MOST_FRAMES, TASK_SIDE, BadImage, gif_frames, normalised
from tests.api.bodies import FAKE_VISION, error_of, newest_job
from tests.api.image_files import FORMATS, animation, bombs, image, with_exif
from tests.e2e.servers import FAKE_LLM

LIMITS = ImageLimits()
BOMBS = bombs()
MOST_GROWTH_BYTES = 64 * 2**20


def b64(file: bytes) -> str:
    return base64.b64encode(file).decode()


def url_of(file: bytes, form: str = "png") -> str:
    return f"data:image/{form};base64,{b64(file)}"


def ask(http, *urls: str, model: str = FAKE_VISION, **change) -> httpx.Response:
    parts = [{"type": "text", "text": "What is it?"}, *({"type": "image_url", "image_url": {"url": u}} for u in urls)]
    body = {"model": model, "max_tokens": 2, "messages": [{"role": "user", "content": parts}], **change}
    return http.post("/v1/chat/completions", json=body)


def pixels(file: bytes, **limits) -> Image.Image:
    """What is queued of it."""
    made = normalised(file, ImageLimits(**limits))
    opened = Image.open(io.BytesIO(base64.b64decode(made.data)))
    assert (opened.size, opened.mode) == ((made.width, made.height), "RGB")
    return opened


def colour_of(picture: Image.Image) -> tuple[int, ...]:
    """Of one of its pixels."""
    colour = picture.getpixel((1, 1))
    assert isinstance(colour, tuple)
    return colour


# --- through HTTP


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_served(http, form):
    response = ask(http, url_of(image(form), form.lower()))
    assert response.status_code == 200, response.text
    assert response.json()["model"] == FAKE_VISION


def test_an_image_counts_as_part_of_the_prompt(http):
    one, two = (ask(http, *[url_of(image())] * n).json()["usage"]["prompt_tokens"] for n in (1, 2))
    without = ask(http).json()["usage"]["prompt_tokens"]
    assert one - without == two - one > 100


def test_ollama_gives_images_beside_the_text(http):
    messages = [{"role": "user", "content": "x", "images": [b64(image())]}]
    chat = {"model": FAKE_VISION, "stream": False, "messages": messages}
    assert http.post("/api/chat", json=chat).json()["prompt_eval_count"] > 100
    generate = {"model": FAKE_VISION, "stream": False, "images": [b64(image())]}
    assert http.post("/api/generate", json={**generate, "prompt": "x"}).json()["prompt_eval_count"] > 100
    assert http.post("/api/generate", json=generate).json()["done_reason"] != "load"


def test_a_model_for_text_refuses_images_by_the_field(http):
    before = newest_job(http)
    response = ask(http, url_of(image()), model=FAKE_LLM)
    error = error_of(response)
    assert (response.status_code, error["param"]) == (400, "messages[0].content[1].image_url")
    assert error["message"] == "messages[0].content[1].image_url: Images are not served by this model."
    chat = {"model": FAKE_LLM, "messages": [{"role": "user", "content": "x", "images": [b64(image())]}]}
    assert http.post("/api/chat", json=chat).status_code == 400
    assert newest_job(http) == before


def test_too_many_images_are_refused_at_the_first_too_many(http):
    response = ask(http, *[url_of(image())] * 9)
    assert (response.status_code, error_of(response)["param"]) == (400, "messages[0].content[9].image_url")


def peak_bytes(pid: int) -> int:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to tell a process's peak")
def test_no_bomb_is_queued_and_none_takes_memory(http, server):
    assert len(BOMBS) >= 30
    ask(http, url_of(image()))
    before, pid = newest_job(http), server.api_pids()[-1]
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    started = peak_bytes(pid)
    for name, file in BOMBS.items():
        for response in (ask(http, url_of(file)), ask(http, url_of(image()), url_of(file))):
            assert response.status_code == 400, name
        assert error_of(response)["param"] == "messages[0].content[2].image_url", name
        as_ollama = {"model": FAKE_VISION, "messages": [{"role": "user", "content": "x", "images": [b64(file)]}]}
        assert http.post("/api/chat", json=as_ollama).status_code == 400, name
    assert peak_bytes(pid) - started < MOST_GROWTH_BYTES
    assert newest_job(http) == before


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,####",
        "data:image/png,abc",
        "data:text/html;base64,eA==",
        "data:;base64,eA==",
        "DATA:image/png;base64,",
        "data:image/png;base64," + "A" * 9,
        "http://127.0.0.1/x.png",
        "http://localhost/x.png",
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "x",
    ],
)
def test_what_is_no_image_is_refused_by_the_field(http, url):
    response = ask(http, url)
    assert (response.status_code, error_of(response)["param"]) == (400, "messages[0].content[1].image_url")


def test_ollama_takes_no_urls(http):
    body = {"model": FAKE_VISION, "prompt": "x", "images": ["http://localhost/x.png"]}
    response = http.post("/api/generate", json=body)
    assert response.status_code == 400
    assert "base64" in error_of(response)["message"]


# --- what becomes of an image


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_no_image(name):
    with pytest.raises(BadImage):
        normalised(BOMBS[name], LIMITS)


MODES = [(form, mode) for form in ("PNG", "WEBP") for mode in ("RGB", "RGBA", "L", "P", "1")]


@pytest.mark.parametrize(("form", "mode"), [*MODES, ("PNG", "LA"), ("JPEG", "CMYK"), ("JPEG", "L"), ("GIF", "P")])
def test_every_mode_becomes_rgb(form, mode):
    out = io.BytesIO()
    Image.new("RGB", (20, 10), "white").convert(mode).save(out, form)
    assert min(colour_of(pixels(out.getvalue()))) > 250


def test_sixteen_bits_become_eight():
    assert pixels(image("PNG", (20, 10), mode="I;16")).size == (20, 10)


def test_a_large_image_is_made_small_and_keeps_its_shape():
    small = pixels(image("JPEG", (4000, 1000)))
    assert small.size == (TASK_SIDE, TASK_SIDE // 4)
    assert small.format == "JPEG"
    assert len(normalised(image("PNG", (4000, 4000)), LIMITS).data) < 300_000


def test_even_noise_does_not_fill_the_queue():
    noise = io.BytesIO()
    Image.effect_noise((3000, 3000), 100).convert("RGB").save(noise, "JPEG")
    assert len(normalised(noise.getvalue(), LIMITS).data) < 700_000


def test_a_small_image_loses_nothing():
    file = image("BMP", (100, 100), "#123456")
    small = pixels(file)
    assert (small.format, colour_of(small)) == ("PNG", (0x12, 0x34, 0x56))


def test_what_is_transparent_is_white():
    out = io.BytesIO()
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(out, "PNG")
    assert colour_of(pixels(out.getvalue())) == (255, 255, 255)


def test_a_photo_stands_upright_and_leaves_its_place_behind():
    exif = Image.Exif()
    exif[0x0112] = 6  # Lies on its side.
    exif[0x010E] = "at home"
    upright = pixels(image("JPEG", (400, 300), exif=exif))
    assert upright.size == (300, 400)
    assert not upright.getexif()


@pytest.mark.parametrize("junk", [b"", b"\xff" * 5000, b"MM\0*\0\0\0\x08" + b"\1" * 60_000])
def test_junk_beside_the_pixels_is_left_behind(junk):
    assert not pixels(with_exif(junk)).getexif()
    assert pixels(image("JPEG", icc_profile=junk or b"x")).info.get("icc_profile") is None


def test_of_an_animation_the_first_frame_counts():
    for form in ("GIF", "WEBP", "PNG"):
        first = colour_of(pixels(animation(form, 20)))
        assert all(abs(a - b) < 12 for a, b in zip(first, (0, 0, 7), strict=True)), form


@pytest.mark.parametrize("frames", [1, 2, 20, MOST_FRAMES, MOST_FRAMES + 1])
def test_the_frames_of_a_gif_are_counted_without_decoding(frames):
    assert gif_frames(animation("GIF", frames), MOST_FRAMES) == frames
    assert gif_frames(animation("GIF", frames), 5) == min(frames, 6)


def test_limits_are_those_of_the_settings():
    file = image("PNG", (100, 100))
    with pytest.raises(BadImage, match="at most 9999 in all"):
        pixels(file, max_pixels=9999)
    with pytest.raises(BadImage, match="at most 20 bytes"):
        pixels(file, max_bytes=20)
    assert pixels(file, max_pixels=10_000).size == (100, 100)
