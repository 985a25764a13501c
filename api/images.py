"""Images of requests: taken from their URL or base64, checked before they are decoded, and made small for the queue.

An image file says itself how large it is, and a few bytes may stand for a gigabyte of pixels. So nothing is decoded
before its size is known, and of each process one image at a time.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from PIL import Image as Pillow
from PIL import ImageFile, ImageOps, PngImagePlugin

from api.config import ImageLimits
from api.errors import TooBusy
from api.fetching import BadURL, Fetcher, TooManyFetches
from api.schemas.fields import Picture
from api.services import Services
from jobs.errors import BadPrompt
from jobs.request import GenerateRequest, Image, Request

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
#: The longer side of an image as it is queued: models look at less. Pixels.
TASK_SIDE = 1280
#: Up to so many pixels an image is queued as PNG, which loses nothing; a larger one as JPEG.
PNG_PIXELS = 65_536
#: Tried from the best on until the image has no more than `TASK_BYTES`; noise may have more at the last.
JPEG_QUALITIES = (90, 75, 50)
TASK_BYTES = 300_000
#: Of an animation the first frame is used; one of more frames than this is no image.
MOST_FRAMES = 256
#: Passes of a progressive JPEG; each is work over all its pixels. Usual are ten.
MOST_SCANS = 24
#: What texts in a PNG may unpack to. Bytes.
PNG_TEXT_BYTES = 2**20

_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]{1,40};base64,", re.IGNORECASE)
_decoding = threading.Lock()
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = PNG_TEXT_BYTES


class BadImage(Exception):
    """Not an image that is taken here; says why."""


def loaded(request: Request, at: Services) -> Request:
    """The request with its pictures ready to be queued. Blocks while they are fetched and decoded.

    Raises `UnknownModel`, `BadPrompt` with the field that has the first bad one, and `TooBusy`.
    """
    if not isinstance(request, GenerateRequest):
        return request
    places = [place for number, message in enumerate(request.messages) for place in _places(request, number, message)]
    if not places:
        return request
    if at.models.get(request.model, *request.kinds).kind != "vision":
        raise _refused("Images are not served by this model.", places[0])
    limits = at.config.images
    if len(places) > limits.most:
        raise _refused(f"At most {limits.most} images.", places[limits.most])
    messages = [_with_images(request, number, message, at) for number, message in enumerate(request.messages)]
    return replace(request, messages=tuple(messages))


def _refused(why: str, place: str) -> BadPrompt:
    """As the schemas' errors: Ollama's clients see the text alone."""
    return BadPrompt(f"{place}: {why}", place)


def _pictures(message: Mapping[str, Any]) -> list[Picture]:
    content = message.get("content")
    return [part for part in content if isinstance(part, Picture)] if isinstance(content, tuple) else []


def _places(request: GenerateRequest, number: int, message: Mapping[str, Any]) -> list[str]:
    """Its pictures' fields, as the caller writes them."""
    before = f"messages[{number}]." if request.param == "messages" else ""
    return [before + picture.place for picture in _pictures(message)]


def _with_images(
    request: GenerateRequest, number: int, message: Mapping[str, Any], at: Services
) -> Mapping[str, Any]:
    found = iter(_places(request, number, message))
    if not _pictures(message):
        return message
    return {
        **message,
        "content": tuple(
            _ready(part, next(found), at.config.images, at.fetcher) if isinstance(part, Picture) else part
            for part in message["content"]
        ),
    }


def _ready(picture: Picture, place: str, limits: ImageLimits, fetcher: Fetcher) -> Image:
    try:
        return normalised(file_of(picture, limits, fetcher), limits)
    except (BadImage, BadURL) as error:
        raise _refused(str(error), place) from error
    except TooManyFetches:
        raise TooBusy from None


def file_of(picture: Picture, limits: ImageLimits, fetcher: Fetcher) -> bytes:
    """The image as a file. Raises `BadImage`, `BadURL`."""
    if not picture.is_url:
        return decoded(picture.text, 0, limits)
    if found := _DATA_URL.match(picture.text):
        return decoded(picture.text, found.end(), limits)
    if picture.text[:5].lower() == "data:":
        raise BadImage("A data: URL must begin with data:image/TYPE;base64, as in data:image/png;base64,.")
    return fetcher.fetch(picture.text, limits.max_bytes)


def decoded(text: str, start: int, limits: ImageLimits) -> bytes:
    """The bytes that stand in base64 behind `start`."""
    if (len(text) - start) * 3 // 4 > limits.max_bytes + 2:
        raise BadImage(f"The image is too large: at most {limits.max_bytes} bytes are taken.")
    try:
        return base64.b64decode(text[start:], validate=True)
    except (binascii.Error, ValueError):
        raise BadImage("The image is not valid base64.") from None


def normalised(file: bytes, limits: ImageLimits) -> Image:
    """The first frame upright, in RGB, at most `TASK_SIDE` long, as a PNG or JPEG without anything else in it."""
    if len(file) > limits.max_bytes:
        raise BadImage(f"The image is too large: at most {limits.max_bytes} bytes are taken.")
    check_head(file, limits)
    with _decoding:
        try:
            with Pillow.open(io.BytesIO(file), formats=FORMATS) as opened:
                check_size(*opened.size, limits)
                return _encoded(_small(opened))
        except BadImage:
            raise
        # Pillow raises what its decoders happen to meet: OSError, SyntaxError, struct.error, zlib.error, …
        except Exception as error:
            raise BadImage("The image is damaged, or not a PNG, JPEG, WEBP, GIF or BMP.") from error


def check_head(file: bytes, limits: ImageLimits) -> None:
    """What must be known before Pillow opens a file. Raises `BadImage`."""
    if file.startswith(b"RIFF"):  # Pillow makes room for all of a WEBP's pixels when it opens one.
        check_size(*webp_size(file), limits)
    if file.startswith(b"GIF8") and gif_frames(file, MOST_FRAMES) > MOST_FRAMES:
        raise BadImage(f"The animation has more than {MOST_FRAMES} frames.")
    if file.startswith(b"\xff\xd8") and file.count(b"\xff\xda") > MOST_SCANS:
        raise BadImage("The JPEG has too many scans.")
    if (at := file.find(b"acTL", 0, 65_536)) > 0 and int.from_bytes(file[at + 4 : at + 8]) > MOST_FRAMES:
        raise BadImage(f"The animation has more than {MOST_FRAMES} frames.")


def check_size(width: int, height: int, limits: ImageLimits) -> None:
    if width < 1 or height < 1:
        raise BadImage("The image has no pixels.")
    if width * height > limits.max_pixels:
        raise BadImage(f"The image is {width} by {height} pixels; at most {limits.max_pixels} in all are taken.")


def webp_size(file: bytes) -> tuple[int, int]:
    """From the first chunk: RFC 9649, sections 2.4 to 2.7."""

    def number(at: int, count: int) -> int:
        return int.from_bytes(file[at : at + count], "little")

    match file[12:16]:
        case b"VP8X":
            return 1 + number(24, 3), 1 + number(27, 3)
        case b"VP8L":
            bits = number(21, 4)
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            return number(26, 2) & 0x3FFF, number(28, 2) & 0x3FFF
    raise BadImage("The image is damaged, or not a PNG, JPEG, WEBP, GIF or BMP.")


def gif_frames(file: bytes, most: int) -> int:
    """How many frames follow each other in a GIF's blocks, counted up to one more than `most`."""

    def behind_blocks(at: int) -> int:
        while at < len(file) and file[at]:
            at += file[at] + 1
        return at + 1

    def table(at: int) -> int:
        return 3 << (file[at] & 7) + 1 if at < len(file) and file[at] & 0x80 else 0

    at, frames = 13 + table(10), 0
    while at < len(file) and frames <= most:
        if file[at] == 0x21:
            at = behind_blocks(at + 2)
        elif file[at] == 0x2C:
            frames += 1
            at = behind_blocks(at + 11 + table(at + 9))
        else:
            break
    return frames


def _small(image: ImageFile.ImageFile) -> Pillow.Image:
    """In RGB and within `TASK_SIDE`, transparent parts white. Shrunk first where that takes less memory."""
    image.draft("RGB", (TASK_SIDE, TASK_SIDE))
    small: Pillow.Image = image
    if image.mode not in ("RGB", "RGBA", "L"):
        small = image.convert("RGBA" if image.has_transparency_data else "RGB")
    small.thumbnail((TASK_SIDE, TASK_SIDE))
    small = _upright(small)
    if small.mode == "RGBA":
        white = Pillow.new("RGBA", small.size, "white")
        small = Pillow.alpha_composite(white, small)
    return small.convert("RGB")


def _upright(image: Pillow.Image) -> Pillow.Image:
    """As its EXIF says it was held; junk there says nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _encoded(image: Pillow.Image) -> Image:
    out = io.BytesIO()
    if image.width * image.height <= PNG_PIXELS:
        Pillow.frombytes("RGB", image.size, image.tobytes()).save(out, "PNG")
    else:
        image.info.clear()
        for quality in JPEG_QUALITIES:
            out = io.BytesIO()
            image.save(out, "JPEG", quality=quality)
            if out.tell() <= TASK_BYTES:
                break
    return Image(base64.b64encode(out.getvalue()).decode("ascii"), image.width, image.height)
