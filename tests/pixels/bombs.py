"""Small files that ask for much: of memory, or of time. Made by code, in every format that can."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable

from PIL import Image
from pixels.mutations import jpeg_spans
from pixels.seed_pictures import bmp_file, heics, png_chunk, png_file, save, tiff_file, tiff_tags

MEGA = 1 << 20
SIDE = 4000
"""Of the pictures that are decoded, to see what a pixel takes."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PALETTE = png_chunk(b"PLTE", bytes(768))


def zeros(count: int) -> bytes:
    """So many zero bytes as a zlib stream."""
    packer = zlib.compressobj(6)
    pieces = [packer.compress(bytes(MEGA)) for _ in range(count // MEGA)]
    return b"".join([*pieces, packer.compress(bytes(count % MEGA)), packer.flush()])


def bombs() -> dict[str, tuple[Callable[[], bytes], str]]:
    """By name: what makes the file, and a part of the reason for which it is refused; `""` where it may be described.

    A file that may be described costs no more than its pixels do.
    """
    return {
        **_png_bombs(),
        **_gif_bombs(),
        **_webp_bombs(),
        **_tiff_bombs(),
        **_bmp_bombs(),
        **_jpeg_bombs(),
        **_grids(),
    }


def large_pictures() -> dict[str, Callable[[], bytes]]:
    """Pictures of `SIDE` x `SIDE` pixels of one color, in the ways that take most memory for a pixel."""
    size = (SIDE, SIDE)
    area = SIDE * SIDE
    return {
        "png RGB": lambda: _png(size, 8, 2),
        "png RGBA 16": lambda: _png(size, 16, 6),
        "png RGB 16 interlaced": lambda: _png(size, 16, 2, interlaced=True),
        "png bilevel palette": lambda: _png(size, 1, 3, _PALETTE),
        "gif canvas": lambda: _gif(size, _gif_frame((1, 1))),
        "webp lossless": lambda: _webp(_vp8l(size, alpha=False)),
        "webp alpha": lambda: _webp(_vp8l(size, alpha=True)),
        "webp animated": lambda: _webp_animation(size, [_webp_frame(size)] * 2),
        "tiff RGB": lambda: _tiff(size, 8, 3, zeros(area * 3)),
        "tiff RGBA 16": lambda: _tiff(size, 16, 4, zeros(area * 8), {338: (3, [2])}),
        "tiff CMYK": lambda: _tiff(size, 8, 4, zeros(area * 4), {262: (3, [5])}),
        "tiff float": lambda: _tiff(size, 32, 1, zeros(area * 4), {339: (3, [3])}),
        "bmp 1": lambda: bmp_file(size, 1, bytes(SIDE // 8 * SIDE), palette=bytes(8)),
        "jpeg progressive": lambda: _jpeg(size, [_scan([1, 2, 3])]),
        "jpeg CMYK progressive": lambda: _jpeg(size, [_scan([67, 77, 89, 75])], "CMYK"),
        "jpeg 100 scans": lambda: _jpeg(size, [_scan([1, 2, 3]), *[_scan([1], 1, 63)] * 99]),
        "avif grid": lambda: avif_grid(512, 8, 8),
    }


def _png_bombs() -> dict[str, tuple[Callable[[], bytes], str]]:
    small = (8, 8)
    text = png_chunk(b"iTXt", b"w\0\1\0\0\0" + zeros(MEGA - 10))
    return {
        "png 30000 x 30000": (lambda: png_file((30_000, 30_000), (8, 2, 0), zeros(MEGA)), "too large"),
        "png 2^31 x 2^31": (lambda: png_file(((1 << 31) - 1,) * 2, (8, 2, 0), zeros(MEGA)), "too large"),
        "png of one column": (lambda: _png((1, 20_000_000), 8, 0), "a side has at most"),
        "png of one line": (lambda: _png((20_000_000, 1), 8, 0), "a side has at most"),
        "png zTXt": (lambda: _png(small, 8, 6, png_chunk(b"zTXt", b"w\0\0" + zeros(256 * MEGA))), "too large"),
        "png iTXt": (lambda: _png(small, 8, 6, *[text] * 200), "Too much memory"),
        "png iCCP": (lambda: _png(small, 8, 6, png_chunk(b"iCCP", b"w\0\0" + zeros(256 * MEGA))), "too large"),
        "png chunks": (lambda: _png(small, 8, 6, png_chunk(b"abCd", b"") * 500_000), "more than 65,536 chunks"),
        "png frames that are not there": (
            lambda: _png(small, 8, 6, png_chunk(b"acTL", struct.pack(">II", 1 << 31, 0))), "",
        ),
    }  # fmt: skip


def _png(size: tuple[int, int], bits: int, color: int, *extra: bytes, interlaced: bool = False) -> bytes:
    """All its samples are zero. An interlaced one has its lines in seven passes; a little too many do not matter."""
    width, height = size
    count = (1 + -(-width * _CHANNELS[color] * bits // 8)) * height
    return png_file(size, (bits, color, int(interlaced)), zeros(count + 8 * height * interlaced), *extra)


def _gif_bombs() -> dict[str, tuple[Callable[[], bytes], str]]:
    small, frame = (8, 8), _gif_frame((1, 1))
    return {
        "gif 65535 x 65535": (lambda: _gif((65_535, 65_535), frame), "too large"),
        "gif frame beyond the canvas": (lambda: _gif(small, _gif_frame((65_535, 65_535))), "too large"),
        "gif million frames": (lambda: _gif(small, frame * 1_000_000), ""),
        "gif comment of tiny blocks": (lambda: _gif(small, b"!\xfe" + b"\1a" * MEGA + b"\0" + frame), "blocks"),
        "gif extensions": (lambda: _gif(small, b"!\xfe\1a\0" * 500_000 + frame), "blocks"),
        "gif stray bytes": (lambda: _gif(small, b"\0" * MEGA + frame), "blocks"),
    }


def _gif(canvas: tuple[int, int], blocks: bytes) -> bytes:
    return b"GIF89a" + struct.pack("<HH", *canvas) + b"\x80\0\0" + bytes(6) + blocks + b";"


def _gif_frame(size: tuple[int, int]) -> bytes:
    return b"," + struct.pack("<HHHH", 0, 0, *size) + b"\0\2\2\x4c\1\0"


def _webp_bombs() -> dict[str, tuple[Callable[[], bytes], str]]:
    tiny = _webp_frame((13, 13))
    return {
        "webp 16383 x 16383": (lambda: _webp(_vp8l((16_383, 16_383), alpha=False)), "too large"),
        "webp canvas 2^24": (lambda: _webp_animation((1 << 24, 1 << 24), [tiny] * 2), "too large"),
        "webp many frames": (lambda: _webp_animation((13, 13), [tiny] * 300_000), ""),
    }


def _riff(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def _webp(*chunks: bytes) -> bytes:
    return _riff(b"RIFF", b"WEBP" + b"".join(chunks))


def _vp8l(size: tuple[int, int], *, alpha: bool) -> bytes:
    """A lossless picture of one color in any size: five prefix codes of one symbol, so that pixels take no bits."""
    bits = (size[0] - 1) | (size[1] - 1) << 14 | alpha << 28 | sum(1 << 35 + 4 * code for code in range(5))
    return _riff(b"VP8L", b"\x2f" + bits.to_bytes(16, "little"))


def _webp_frame(size: tuple[int, int]) -> bytes:
    place = bytes(6) + b"".join((side - 1).to_bytes(3, "little") for side in size)
    return _riff(b"ANMF", place + bytes((100, 0, 0, 0)) + _vp8l(size, alpha=True))


def _webp_animation(size: tuple[int, int], frames: list[bytes]) -> bytes:
    sides = b"".join((side - 1).to_bytes(3, "little") for side in size)
    return _webp(_riff(b"VP8X", bytes((0x12, 0, 0, 0)) + sides), _riff(b"ANIM", bytes(6)), *frames)


def _tiff_bombs() -> dict[str, tuple[Callable[[], bytes], str]]:
    tile = {322: (4, [20_000]), 323: (4, [20_000]), 324: (4, [8]), 325: (4, [MEGA])}
    strip = {278: (4, [1 << 31])}
    exif = {34665: (4, [8])}
    return {
        "tiff 30000 x 30000": (lambda: _tiff((30_000, 30_000), 8, 3, zeros(MEGA)), "too large"),
        "tiff lzw 65535": (lambda: _tiff((65_535, 65_535), 8, 3, bytes(MEGA), {259: (3, [5])}), "too large"),
        "tiff huge tile": (lambda: tiff_file(tiff_tags((8, 8), method=8) | tile, zeros(MEGA)), "a side of 20,000"),
        "tiff huge strip": (lambda: _tiff((8, 8), 8, 3, zeros(256 * MEGA), strip), "broken"),
        "tiff tags": (lambda: _many_tags(65_000), "65,000 tags"),
        "tiff big tags": (lambda: _many_tags(1_000_000, big=True), "1,000,000 tags"),
        "tiff EXIF tags": (
            lambda: _tiff((8, 8), 8, 3, struct.pack("<H", 60_000) + bytes(720_000), exif),
            "60,000 tags",
        ),
        "tiff pages that lead back": (lambda: _pages(50, loop=True), ""),
        "tiff pages": (lambda: _pages(30_000), ""),
    }


def _tiff(size: tuple[int, int], bits: int, samples: int, data: bytes, more: dict | None = None) -> bytes:
    where = {273: (4, [8]), 279: (4, [len(data)])}
    return tiff_file(tiff_tags(size, bits=bits, method=8, samples=samples) | where | (more or {}), data)


def _many_tags(count: int, *, big: bool = False) -> bytes:
    """Each tag holds the whole file."""
    entry = "<HHQQ" if big else "<HHII"
    opening = struct.pack("<4sHHQQ", b"II+\0", 8, 0, 16, count) if big else struct.pack("<4sIH", b"II*\0", 8, count)
    length = len(opening) + count * struct.calcsize(entry) + 64
    entries = b"".join(struct.pack(entry, number % 65_536, 7, length - 100, 8) for number in range(count))
    return (opening + entries).ljust(length, b"\0")


def _pages(count: int, *, loop: bool = False) -> bytes:
    tags = ((256, 8), (257, 8), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 8), (279, 64))
    body = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    starts = [72 + number * (len(body) + 4) for number in range(count)]
    following = [*starts[1:], starts[0] if loop else 0]
    return struct.pack("<4sI", b"II*\0", 72) + bytes(64) + b"".join(body + struct.pack("<I", at) for at in following)


def _bmp_bombs() -> dict[str, tuple[Callable[[], bytes], str]]:
    colors = bytes(1024)
    ends = b"\1\1\0\0" * 2900  # a pixel and the end of a line, which Pillow fills byte by byte
    return {
        "bmp 2^31": (lambda: bmp_file(((1 << 31) - 1,) * 2, 24, bytes(100)), "too large"),
        "bmp RLE lines": (lambda: bmp_file((60_000, 2900), 8, ends, method=1, palette=colors), "run-length"),
        "bmp RLE 4": (
            lambda: bmp_file((13_000, 13_000), 4, b"\xff\x11" * MEGA, method=2, palette=colors),
            "run-length",
        ),
        "bmp RLE codes": (lambda: bmp_file((9, 9), 8, b"\0\2\0\0" * MEGA, method=1, palette=colors), "more codes"),
    }


def _jpeg_bombs() -> dict[str, tuple[Callable[[], bytes], str]]:
    size = (SIDE, SIDE)
    small = save(Image.new("RGB", (8, 8)), "JPEG")[2:]
    note = b"\xff\xe1\xff\xff" + b"Exif\0\0".ljust(65_533, b"\0")
    cmyk = save(Image.new("CMYK", (8, 8)), "JPEG")[2:]
    comments = b"\xff\xfe\0\2" * 70_000
    return {
        "jpeg 65500 x 65500": (lambda: _jpeg((65_500, 65_500), [_scan([1, 2, 3])]), "too large"),
        "jpeg progressive scans": (lambda: _jpeg(size, [_scan([1, 2, 3]), *[_scan([1], 1, 63)] * 1000]), "100 scans"),
        "jpeg baseline scans": (lambda: _jpeg(size, [_scan([1])] * 1000, progressive=False), "100 scans"),
        "jpeg scans after comments": (
            lambda: _jpeg(size, [_scan([1, 2, 3]), comments, *[_scan([1], 1, 63)] * 1000]), "segments",
        ),
        "jpeg comments after the frame": (lambda: _jpeg(size, [comments, *[_scan([1], 1, 63)] * 1000]), "segments"),
        "jpeg segments": (lambda: b"\xff\xd8" + b"\xff\xe5\0\2" * 500_000 + small, "segments"),
        "jpeg fill": (lambda: b"\xff\xd8" + b"\xff" * 20 * MEGA + small, ""),
        "jpeg fill in its data": (lambda: _jpeg((8, 8), [_scan([1, 2, 3]) + b"\xff" * MEGA + b"\0"]), ""),
        "jpeg EXIF in parts": (lambda: b"\xff\xd8" + note * 800 + cmyk, ""),
    }  # fmt: skip


def _jpeg(size: tuple[int, int], scans: Iterable[bytes], mode: str = "RGB", *, progressive: bool = True) -> bytes:
    """A JPEG with these scans instead of its own."""
    whole = bytearray(save(Image.new(mode, (16, 16)), "JPEG", progressive=progressive))
    head = b"".join(whole[start:end] for start, end in jpeg_spans(whole) if whole[start + 1] != 0xDA)
    at = head.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    head = head[:at] + struct.pack(">HH", size[1], size[0]) + head[at + 4 :]
    return b"\xff\xd8" + head + b"".join(scans) + b"\xff\xd9"


def _scan(components: list[int], first: int = 0, last: int = 0) -> bytes:
    """A scan without data: the decoder fills it in."""
    which = b"".join(bytes((component, 0)) for component in components)
    return b"\xff\xda" + struct.pack(">HB", 6 + len(which), len(components)) + which + bytes((first, last, 0))


def _grids() -> dict[str, tuple[Callable[[], bytes], str]]:
    heic = {"heic grid": (lambda: _heic_grid(100, 100), "list 'iloc'")} if heics() else {}
    return heic | {
        "avif grid of 40000 tiles": (lambda: avif_grid(64, 200, 200), "list 'iloc'"),
        "avif grid of 65535 pixels": (lambda: avif_grid(64, 2, 2, (65_535, 65_535)), "too large|broken"),
    }


def avif_grid(side: int, rows: int, columns: int, size: tuple[int, int] | None = None) -> bytes:
    """An AVIF of many tiles that are all the same bytes."""
    whole = save(Image.new("RGB", (side, side), (200, 100, 50)), "AVIF", speed=10)
    top = _children(whole, 0, len(whole))
    start, end = top[b"meta"]
    start, end = _children(whole, start + 4, end)[b"iprp"]
    start, end = _children(whole, start, end)[b"ipco"]
    properties = [whole[begin - 8 : stop] for begin, stop in _children(whole, start, end).values()]
    tile = whole[slice(*top[b"mdat"])]
    return _grid(b"avif", b"av01", tile, properties, (rows, columns), size or (columns * side, rows * side))


def _heic_grid(rows: int, columns: int) -> bytes:
    """The same of HEIC; its tile comes from a camera's file."""
    whole = heics()["heic photo"]
    start, end = whole.index(b"hvcC") - 4, whole.index(b"ispe") + 16
    properties = [whole[start : whole.index(b"ispe") - 4], whole[whole.index(b"ispe") - 4 : end]]
    return _grid(b"heic", b"hvc1", whole[0xD26 : 0xD26 + 0x64F2], properties, (rows, columns), (9000, 9000))


def _children(data: bytes, at: int, end: int) -> dict[bytes, tuple[int, int]]:
    """The content of the boxes side by side, by name."""
    found = {}
    while at + 8 <= end:
        size = int.from_bytes(data[at : at + 4], "big")
        found[data[at + 4 : at + 8]] = (at + 8, at + size)
        at += size
    return found


def _box(name: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I", len(content) + 8) + name + content


def _item(number: int, kind: bytes) -> bytes:
    return _box(b"infe", struct.pack(">IHH", 2 << 24, number, 0), kind, b"\0")


def _grid(
    brand: bytes, kind: bytes, tile: bytes, properties: list[bytes], tiles: tuple[int, int], size: tuple[int, int]
) -> bytes:
    """A grid of items (ISO/IEC 23008-12, section 6.6.2.3) that share one tile."""
    rows, columns = tiles
    count = rows * columns
    whole = count + 1
    numbers = range(1, whole)
    shape = bytes((0, 0, rows - 1, columns - 1)) + struct.pack(">HH", *size)
    linked = bytes((len(properties), *range(1, len(properties) + 1)))
    links = [struct.pack(">H", number) + linked for number in numbers]
    links.append(struct.pack(">HBB", whole, 1, len(properties) + 1))
    sides = _box(b"ispe", bytes(4), struct.pack(">II", *size))
    items = [_item(number, kind) for number in numbers] + [_item(whole, b"grid")]
    references = struct.pack(">HH", whole, count) + b"".join(struct.pack(">H", number) for number in numbers)

    def meta(at: int) -> bytes:
        places = [struct.pack(">HHHII", number, 0, 1, at + 8, len(tile)) for number in numbers]
        places.append(struct.pack(">HHHII", whole, 0, 1, at, 8))
        return _box(
            b"meta",
            bytes(4),
            _box(b"hdlr", bytes(8), b"pict", bytes(13)),
            _box(b"pitm", bytes(4), struct.pack(">H", whole)),
            _box(b"iloc", bytes(4), b"\x44\0", struct.pack(">H", whole), *places),
            _box(b"iinf", bytes(4), struct.pack(">H", whole), *items),
            _box(b"iref", bytes(4), _box(b"dimg", references)),
            _box(b"iprp", _box(b"ipco", *properties, sides), _box(b"ipma", bytes(4), struct.pack(">I", whole), *links)),
        )

    head = _box(b"ftyp", brand, bytes(4), brand, b"mif1", b"miaf")
    return head + meta(len(head) + len(meta(0)) + 8) + _box(b"mdat", shape, tile)
