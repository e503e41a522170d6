"""Damage to pictures, by chance but repeatable: a seed and a number give the same file again.

Half of it knows nothing of formats (bits, bytes, cuts, copies, splices); the other half does: it keeps the checksums
of a PNG right, and finds the segments of a JPEG, the entries of a TIFF, the chunks of a WebP, the boxes of AVIF and
HEIC, and the places where headers state sizes.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Damage = Callable[[bytearray, random.Random], None]

_BYTES = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF)
_NUMBERS = (0, 1, 2, 255, 256, 32_767, 65_500, 65_535, 1 << 20, 13_377, 30_000, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
_PNG_START = 8
_JPEG_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC9, 0xCA})
_BOXES_OF_BOXES = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0}
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Mutant:
    """A damaged file: its number, the picture it comes from, what was done to it, and its bytes."""

    number: int
    name: str
    kinds: tuple[str, ...]
    data: bytes


def mutant(seed: int, number: int, pictures: Mapping[str, bytes]) -> Mutant:
    """File `number` of the run with this seed; the pictures take turns, all with different damage."""
    chance = random.Random(f"{seed}/{number}")
    names = list(pictures)
    name = names[number % len(names)]
    data = bytearray(pictures[name])
    kinds = []
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        known = _KNOWING.get(name.split()[0], ())
        kind, damage = chance.choice(known if known and chance.random() < 0.5 else _BLIND)
        if kind == "splice":
            _splice(data, pictures[chance.choice(names)], chance)
        elif data:
            damage(data, chance)
        kinds.append(kind)
    return Mutant(number, name, tuple(kinds), bytes(data[:_MAX_BYTES]))


def _flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 8, 40))):
        data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _set_bytes(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 3, 12))):
        data[_place(data, chance)] = chance.choice(_BYTES)


def _set_random(data: bytearray, chance: random.Random) -> None:
    at, size = _place(data, chance), chance.choice((1, 4, 16, 100))
    data[at : at + size] = chance.randbytes(size)


def _set_number(data: bytearray, chance: random.Random) -> None:
    size = chance.choice((2, 4, 4, 8))
    _put(data, _place(data, chance), size, chance.choice(("big", "little")), chance)


def _place(data: bytearray, chance: random.Random) -> int:
    """Anywhere, as often in the first 200 bytes, where headers are."""
    return chance.randrange(min(len(data), 200) if chance.random() < 0.5 else len(data))


def _put(data: bytearray, at: int, size: int, order: str, chance: random.Random) -> None:
    number = chance.choice(_NUMBERS) if chance.random() < 0.8 else chance.getrandbits(32)
    data[at : at + size] = (number % (1 << 8 * size)).to_bytes(size, order)[: max(0, len(data) - at)]


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _grow(data: bytearray, chance: random.Random) -> None:
    size = chance.choice((1, 7, 64, 1000, 70_000))
    more = chance.choice((bytes(size), b"\xff" * size, chance.randbytes(size)))
    at = len(data) if chance.random() < 0.3 else _place(data, chance)
    data[at:at] = more


def _remove(data: bytearray, chance: random.Random) -> None:
    at = _place(data, chance)
    del data[at : at + chance.choice((1, 2, 4, 13, 100, 1000))]


def _copy(data: bytearray, chance: random.Random) -> None:
    start, at = _place(data, chance), _place(data, chance)
    piece = data[start : start + chance.choice((4, 12, 60, 1000))]
    if chance.random() < 0.5:
        data[at:at] = piece * chance.choice((1, 1, 20))
    else:
        data[at : at + len(piece)] = piece


def _swap(data: bytearray, chance: random.Random) -> None:
    size = chance.choice((1, 4, 12, 100))
    first, second = sorted((_place(data, chance), _place(data, chance)))
    if first + size <= second <= len(data) - size:
        there = data[second : second + size]
        data[second : second + size] = data[first : first + size]
        data[first : first + size] = there


def _splice(data: bytearray, other: bytes, chance: random.Random) -> None:
    """The beginning of this file and the end of another, or the other somewhere within."""
    if not data or chance.random() < 0.3:
        at = chance.randrange(len(data) + 1)
        data[at:at] = other
    else:
        data[chance.randrange(len(data)) :] = other[chance.randrange(len(other)) :]


def _spans(data: bytearray, form: str) -> list[tuple[int, int]]:
    """Start and end of the parts that a format has: chunks, segments, boxes. It stops where the damage is too great."""
    return {"png": _png_spans, "jpeg": jpeg_spans, "webp": _webp_spans, "box": _box_spans}[form](data)


def _png_spans(data: bytearray) -> list[tuple[int, int]]:
    found, at = [], _PNG_START
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            break
        found.append((at, end))
        at = end
    return found


def jpeg_spans(data: bytearray) -> list[tuple[int, int]]:
    """The segments up to the end, each scan with its data."""
    found, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDA:
            while end + 1 < len(data) and (data[end] != 0xFF or data[end + 1] in {0, *range(0xD0, 0xD8)}):
                end += 1
        found.append((at, min(end, len(data))))
        at = end
    return found


def _webp_spans(data: bytearray) -> list[tuple[int, int]]:
    found, at = [], 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        if end > len(data):
            break
        found.append((at, end))
        at = end
    return found


def _box_spans(data: bytearray, start: int = 0, stop: int | None = None) -> list[tuple[int, int]]:
    """Boxes of ISO/IEC 14496-12, those within boxes too."""
    found: list[tuple[int, int]] = []
    at, stop = start, len(data) if stop is None else stop
    while at + 8 <= stop:
        end = at + int.from_bytes(data[at : at + 4], "big")
        if end < at + 8 or end > stop:
            break
        found.append((at, end))
        skipped = _BOXES_OF_BOXES.get(bytes(data[at + 4 : at + 8]))
        if skipped is not None:
            found += _box_spans(data, at + 8 + skipped, end)
        at = end
    return found


def _rearrange(form: str) -> Damage:
    """Remove a part, copy it, many times too, swap two, or damage what is inside one."""

    def damage(data: bytearray, chance: random.Random) -> None:
        spans = _spans(data, form)
        if not spans:
            return
        start, end = chance.choice(spans)
        kind = chance.randrange(4)
        if kind == 0:
            del data[start:end]
        elif kind == 1:
            at = chance.choice(spans)[0]
            data[at:at] = data[start:end] * chance.choice((1, 1, 2, 50))
        elif kind == 2:
            (a, b), (c, d) = sorted((chance.choice(spans), (start, end)))
            if b <= c:
                data[a:d] = data[c:d] + data[b:c] + data[a:b]
        else:
            inside = data[start:end]
            chance.choice((_flip_bits, _set_bytes, _set_number, _set_random))(inside, chance)
            data[start:end] = inside
        if form == "png":
            _mend_png(data)

    return damage


def _mend_png(data: bytearray) -> None:
    for start, end in _png_spans(data):
        data[end - 4 : end] = struct.pack(">I", zlib.crc32(data[start + 4 : end - 4]))


def _png_header(data: bytearray, chance: random.Random) -> None:
    """The size, the bits, the color type or the interlacing, with a right checksum."""
    if chance.random() < 0.6:
        _put(data, chance.choice((16, 20)), 4, "big", chance)
    elif len(data) > 28:
        data[chance.choice((24, 25, 28))] = chance.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
    _mend_png(data)


def _jpeg_header(data: bytearray, chance: random.Random) -> None:
    """The kind of the frame, its size, a sampling factor or a table."""
    frames = [start for start, _ in jpeg_spans(data) if data[start + 1] in _JPEG_FRAMES]
    if not frames:
        return
    at = chance.choice(frames)
    kind = chance.randrange(4)
    if kind == 0:
        data[at + 1] = chance.choice(sorted(_JPEG_FRAMES))
    elif kind == 1:
        field = at + chance.randrange(9, 19)
        if field < len(data):
            data[field] = chance.choice((0, 1, 2, 3, 4, 0x11, 0x22, 0x41, 0x44, 0xFF))
    else:
        _put(data, at + chance.choice((5, 7)), 2, "big", chance)


def _gif_header(data: bytearray, chance: random.Random) -> None:
    """The size of the canvas, or place and size of a frame."""
    at = data.find(b",", chance.choice((6, 13, 200)))
    places = [6, 8] + [at + offset for offset in (1, 3, 5, 7) if at > 0]
    _put(data, chance.choice(places), 2, "little", chance)


def _bmp_header(data: bytearray, chance: random.Random) -> None:
    at, size = chance.choice(((10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (34, 4), (46, 4)))
    if at in {28, 30} and at < len(data):
        data[at] = chance.choice((0, 1, 2, 3, 4, 6, 8, 16, 24, 32, 64))
    else:
        _put(data, at, size, "little", chance)


def _webp_header(data: bytearray, chance: random.Random) -> None:
    """The sizes in VP8X, VP8L, VP8 and ANMF, or the flags."""
    at, size = chance.choice(((24, 3), (27, 3), (21, 4), (26, 2), (28, 2), (20, 1), (4, 4), (16, 4)))
    frame = data.find(b"ANMF")
    if frame > 0 and chance.random() < 0.5:
        at, size = frame + chance.choice((8, 11, 14, 17)), 3
    _put(data, at, size, "little", chance)


def _tiff_entry(data: bytearray, chance: random.Random) -> None:
    """The number, kind, count or value of a tag, the count of tags, or where the next page is."""
    order = "little" if data[:1] == b"I" else "big"
    big = data[2:3] == b"+" or data[3:4] == b"+"
    head, slot, step = (8, 8, 20) if big else (2, 4, 12)
    at = int.from_bytes(data[8:16] if big else data[4:8], order)
    count = int.from_bytes(data[at : at + head], order)
    if not 0 < at < len(data) or not 0 < count < 500:
        return
    entry = at + head + chance.randrange(count) * step
    kind = chance.randrange(6)
    if kind == 0:
        data[entry : entry + 2] = chance.choice((256, 258, 259, 273, 277, 278, 322, 324, 330, 34665)).to_bytes(2, order)
    elif kind == 1:
        data[entry + 2 : entry + 4] = chance.randrange(20).to_bytes(2, order)
    elif kind == 5:
        where, size = chance.choice(((at, head), (at + head + count * step, slot)))
        place = chance.choice((at, entry, 8))
        data[where : where + size] = place.to_bytes(size, order)
    else:
        _put(data, entry + (4 if kind == 2 else 4 + slot), slot, order, chance)


def _box_header(data: bytearray, chance: random.Random) -> None:
    """The size of the picture, of a grid, or of a box; the place of an item."""
    name = chance.choice((b"ispe", b"ispe", b"iloc", b"pitm", b"ipma", b"stsz", b"infe", b"pixi"))
    places = [start for start, _ in _box_spans(data) if data[start + 4 : start + 8] == name]
    if not places:
        return
    at = chance.choice(places)
    _put(data, at + chance.choice((0, 8, 12, 16, 20, 24)), chance.choice((1, 2, 4)), "big", chance)


_BLIND: tuple[tuple[str, Damage], ...] = (
    ("bits", _flip_bits), ("bytes", _set_bytes), ("random", _set_random), ("number", _set_number), ("cut", _cut),
    ("grow", _grow), ("remove", _remove), ("copy", _copy), ("swap", _swap), ("splice", _cut),
)  # fmt: skip
_BOX: tuple[tuple[str, Damage], ...] = (("boxes", _rearrange("box")), ("box header", _box_header))
_KNOWING: dict[str, tuple[tuple[str, Damage], ...]] = {
    "png": (("chunks", _rearrange("png")), ("PNG header", _png_header)),
    "jpeg": (("segments", _rearrange("jpeg")), ("JPEG header", _jpeg_header)),
    "webp": (("chunks", _rearrange("webp")), ("WebP header", _webp_header)),
    "gif": (("GIF header", _gif_header),),
    "bmp": (("BMP header", _bmp_header),),
    "tiff": (("TIFF entry", _tiff_entry),),
    "avif": _BOX,
    "heic": _BOX,
}
