"""Image files: good ones of each format, and those that are made to hurt."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
FRAMES = 400


def image(form: str = "PNG", size: tuple[int, int] = (40, 30), colour: str = "red", mode: str = "RGB", **save) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, colour if mode != "I;16" else 500).save(out, form, **save)
    return out.getvalue()


def animation(form: str, frames: int) -> bytes:
    """Frames that differ, so that none is left out."""
    pictures = [Image.new("RGB", (4, 4), (n % 256, n // 256, 7)) for n in range(frames)]
    out = io.BytesIO()
    pictures[0].save(out, form, save_all=True, append_images=pictures[1:])
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *before: bytes, data: bytes = b"\0" * 1000, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG that says it is so large, with few pixels or none."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(data, 9))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(before) + body + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    file = bytearray(image("JPEG"))
    at = file.index(b"\xff\xc0") + 5
    file[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(file)


def gif(width: int, height: int, frame: tuple[int, int] = (0, 0)) -> bytes:
    file = bytearray(image("GIF"))
    file[6:10] = struct.pack("<HH", width, height)
    if frame != (0, 0):
        at = file.index(b"\x2c", 13 + 3 * (2 << (file[10] & 7)))
        file[at + 5 : at + 9] = struct.pack("<HH", *frame)
    return bytes(file)


def bmp(width: int, height: int) -> bytes:
    file = bytearray(image("BMP"))
    file[18:26] = struct.pack("<ii", width, height)
    return bytes(file)


def webp_canvas(width: int, height: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + bytes([0x02, 0, 0, 0]) + (width - 1).to_bytes(3, "little")
    body += (height - 1).to_bytes(3, "little") + b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def webp_lossless(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    body = b"VP8L" + struct.pack("<I", 64) + b"\x2f" + struct.pack("<I", bits) + b"\0" * 59
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def with_exif(junk: bytes) -> bytes:
    file = image("JPEG")
    segment = b"Exif\0\0" + junk
    return file[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + file[2:]


def bombs() -> dict[str, bytes]:
    """None of these is an image that may be decoded."""
    zeros = zlib.compress(b"\0" * 64 * 2**20, 9)
    many_scans = image("JPEG", progressive=True)
    scan = many_scans[many_scans.index(b"\xff\xda") :].removesuffix(b"\xff\xd9")
    return {
        "png 13000": png(13_000, 13_000, data=b"\0" * 20 * 2**20, depth=1, colour=0),
        "png 65500": png(65_500, 65_500),
        "png 2**31-1": png(2**31 - 1, 2**31 - 1),
        "png wide": png(2**31 - 1, 1),
        "png 0 wide": png(0, 10),
        "png 0 high": png(10, 0),
        "png 0": png(0, 0),
        "png without pixels": png(4000, 4000, data=b""),
        "png profile bomb": png(10, 10, chunk(b"iCCP", b"a\0\0" + zeros)),
        "png text bomb": png(10, 10, chunk(b"zTXt", b"a\0\0" + zeros)),
        "png many texts": png(10, 10, *[chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 2**20)) for _ in range(80)]),
        "png international text bomb": png(10, 10, chunk(b"iTXt", b"a\0\1\0\0\0" + zeros)),
        "png animation": png(10, 10, chunk(b"acTL", struct.pack(">II", 100_000, 0))),
        "png wrong check": image("PNG")[:40] + b"\xff" + image("PNG")[41:],
        "png cut": image("PNG", (300, 300))[:60],
        "jpeg 65500": jpeg(65_500, 65_500),
        "jpeg 30000": jpeg(30_000, 30_000),
        "jpeg 0": jpeg(0, 0),
        "jpeg cut": image("JPEG", (300, 300))[:400],
        "jpeg scans": many_scans[: many_scans.index(b"\xff\xda")] + scan * 200 + b"\xff\xd9",
        "gif 65535": gif(65_535, 65_535),
        "gif frame 65535": gif(10, 10, (65_535, 65_535)),
        "gif 0": gif(0, 0, (0, 1)),
        "gif animation": animation("GIF", FRAMES),
        "gif cut": image("GIF", (300, 300))[:30],
        "webp canvas 2**24": webp_canvas(2**24, 2**24),
        "webp 16383": webp_canvas(16_383, 16_383),
        "webp lossless 16384": webp_lossless(16_384, 16_384),
        "webp cut": image("WEBP", (300, 300))[:28],
        "bmp 2**31": bmp(2**31 - 1, 2**31 - 1),
        "bmp 0": bmp(0, 0),
        "bmp cut": image("BMP", (300, 300))[:600],
        "tiff": image("TIFF"),
        "icon": image("ICO"),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\n",
        "text": b"hello",
        "nothing": b"",
        "only a magic": b"\x89PNG\r\n\x1a\n",
    }
