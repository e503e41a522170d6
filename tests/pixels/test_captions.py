"""Words and times of whole pictures: where each format keeps them, and what counts where they differ."""

import hashlib
import json
import random
import struct
import zlib
from datetime import UTC, datetime

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from imagelake.pixels.captions import Captions, read_captions
from imagelake.pixels.describe import describe
from imagelake.pixels.exif import read_exif
from imagelake.pixels.exif_time import read_offset
from imagelake.pixels.packets import find_packets
from imagelake.pixels.picture import open_picture
from imagelake.pixels.words import NO_WORDS
from imagelake.steps.describe import Describe
from pictures import png_chunk, save, scene
from places import SHARED

NAMES = (
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/" '
    'xmlns:xmpNote="http://ns.adobe.com/xmp/note/"'
)
EXTENSION = b"http://ns.adobe.com/xmp/extension/\x00"
DATE, DIGITIZED, CHANGED, OFFSET = 0x9003, 0x9004, 0x0132, 0x9011
GPS = {29: "2024:06:01", 7: (10.0, 30.0, 20.0)}
CLOCK = "2024:06:01 12:30:20"


def local(*parts: int) -> datetime:
    """A naive time: what a file says without a zone."""
    return datetime(*parts)  # noqa: DTZ001


def packet(**properties: str) -> bytes:
    """An XMP packet with simple properties, `dc_title="Cat"`."""
    attributes = " ".join(f'{name.replace("_", ":", 1)}="{value}"' for name, value in properties.items())
    return f"<rdf:RDF {NAMES}><rdf:Description {attributes}/></rdf:RDF>".encode()


def iptc(*sets: tuple[int, str]) -> bytes:
    """An IPTC block of texts."""
    coded = ((number, text.encode()) for number, text in sets)
    return b"".join(struct.pack(">BBBH", 0x1C, 2, number, len(raw)) + raw for number, raw in coded)


def resource(kind: int, content: bytes, name: bytes = b"") -> bytes:
    """A resource of Photoshop: its name and its content are padded to even lengths."""
    name = bytes([len(name)]) + name
    padded_name, padded = name + bytes(len(name) % 2), content + bytes(len(content) % 2)
    return b"8BIM" + struct.pack(">H", kind) + padded_name + struct.pack(">I", len(content)) + padded


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """The segments right after the first marker."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def photoshop(*resources: bytes) -> bytes:
    return segment(0xED, b"Photoshop 3.0\x00" + b"".join(resources))


def picture(image_format: str = "JPEG", **options) -> bytes:
    """The scene; Pillow takes `xmp` for some formats only."""
    if "xmp" in options and image_format == "PNG":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", options.pop("xmp").decode())
    elif "xmp" in options and image_format == "TIFF":
        options["tiffinfo"] = {700: options.pop("xmp")} | options.get("tiffinfo", {})
    return save(Image.fromarray(scene()), image_format, **options)


def exif_block(base=None, exif=None, gps=None) -> bytes:
    block = Image.Exif()
    block.update(base or {})
    block.get_ifd(0x8769).update(exif or {})
    block.get_ifd(0x8825).update(gps or {})
    return block.tobytes()


def read(data: bytes) -> Captions:
    opened = open_picture(data)
    return read_captions(opened, read_exif(opened))


def test_no_words_are_nothing():
    """A picture of any format without metadata has no words, no time and no JSON."""
    for image_format in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF"):
        found = read(picture(image_format))
        assert (found.words, found.xmp_json, found.iptc_json, found.taken_at.source) == (NO_WORDS, None, None, None)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_format_keeps_its_xmp(image_format):
    """The same words come out of every format that can hold a packet, and out of `describe`."""
    data = picture(image_format, xmp=packet(dc_title="Cat", xmp_Rating="5"))
    found = describe(data).captions
    assert (found.words.title, found.words.rating) == ("Cat", 5)
    assert json.loads(found.xmp_json) == {"dc:title": "Cat", "xmp:Rating": "5"}


def test_gif_and_compressed_png():
    """A GIF keeps XMP in an application block, a PNG may compress it."""
    gif = picture("GIF")
    header = 13 + 3 * 2 ** ((gif[10] & 7) + 1)
    trailer = b"\x01" + bytes(range(255, -1, -1)) + b"\x00\x00"
    block = b"\x21\xff\x0bXMP DataXMP" + packet(dc_title="Cat") + trailer
    assert read(gif[:header] + block + gif[header:]).words.title == "Cat"
    png = picture("PNG")
    for method, text in ((b"\x00", packet(dc_title="Cat")), (b"\x01", zlib.compress(packet(dc_title="Cat")))):
        chunk = png_chunk(b"iTXt", b"XML:com.adobe.xmp\x00" + method + b"\x00\x00\x00" + text)
        assert read(png[:33] + chunk + png[33:]).words.title == "Cat"
    broken = png_chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x01\x00\x00\x00no zlib")
    assert "decompressed" in json.loads(read(png[:33] + broken + png[33:]).xmp_json)["error"]


def test_a_large_tiff_keeps_both():
    """A packet longer than 64 KiB and an IPTC block come out of the tags of a TIFF."""
    tags = {33_723: iptc((25, "cat"))}
    long = packet(dc_title="Cat") + b" " * 70_000
    found = read(picture("TIFF", xmp=long, tiffinfo=tags))
    assert (found.words.title, found.words.keywords) == ("Cat", ("cat",))


def test_big_tiff():
    """A BigTIFF keeps the packet in the same tag; offsets beyond any file are no offsets."""
    data = picture("TIFF", xmp=packet(dc_title="Cat"), big_tiff=True)
    assert data[2] == 43
    assert read(data).words.title == "Cat"
    opened = open_picture(picture("TIFF"))
    for offset in (b"\xff" * 8, b"\x00" * 8, b"\xff\xff\xff\x7f" + bytes(4)):
        lying = {name: getattr(opened, name) for name in opened.__slots__} | {"data": data[:8] + offset + data[16:]}
        assert find_packets(type(opened)(**lying)).xmp == b""


@pytest.mark.parametrize("count", [1, 3])
def test_iptc_in_a_jpeg(count):
    """The resources of Photoshop may be spread over segments, and others stand between; names are padded."""
    resources = b"".join(
        [resource(0x03ED, b"odd"), resource(0x0404, iptc((5, "Cat"), (25, "cat")), b"name"), resource(0x040C, bytes(9))]
    )
    size = -(-len(resources) // count)
    parts = [photoshop(resources[start : start + size]) for start in range(0, len(resources), size)]
    found = read(with_segments(picture(), *parts))
    assert (found.words.title, found.words.keywords) == ("Cat", ("cat",))
    assert json.loads(found.iptc_json) == {"ObjectName": "Cat", "Keywords": ["cat"]}


def extended(main: bytes, extension: bytes, *, order=(0, 1, 2), name: bytes | None = None) -> bytes:
    """A JPEG with a packet and its extension in three segments."""
    name = name or hashlib.md5(extension).hexdigest().upper().encode()
    size = -(-len(extension) // 3)
    head = EXTENSION + name
    parts = [
        segment(0xE1, head + struct.pack(">II", len(extension), start) + extension[start : start + size])
        for start in range(0, len(extension), size)
    ]
    return with_segments(
        picture(), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\x00" + main), *(parts[number] for number in order)
    )


def test_extended_xmp():
    """A packet too long for a segment goes on in others, in any order; one that is missing is told."""
    extension = packet(dc_rights="(c)", dc_title="other")
    main = packet(dc_title="Cat", xmpNote_HasExtendedXMP=hashlib.md5(extension).hexdigest().upper())
    for order in ((0, 1, 2), (2, 0, 1)):
        words = read(extended(main, extension, order=order)).words
        assert (words.title, words.copyright) == ("Cat", "(c)")
    for order in ((0, 2), (1, 2), (0, 1)):
        found = read(extended(main, extension, order=order))
        assert found.words.title == "Cat"
        assert "a part of the extended XMP is missing" in json.loads(found.xmp_json)["error"]
    found = read(extended(main, extension, name=b"0" * 32))
    assert "does not name" in json.loads(found.xmp_json)["error"]


WINDOWS = {
    0x9C9B: "Wtitle\x00".encode("utf-16-le"),
    0x9C9C: "Wcomment\x00".encode("utf-16-le"),
    0x9C9D: "Wauthor\x00".encode("utf-16-le"),
    0x9C9E: "cat; pet;cat;\x00".encode("utf-16-le"),
    0x4746: 4,
}


def test_exif_is_the_last_resort():
    """EXIF and what Windows writes there count where nothing else says anything; names of cameras are no caption."""
    words = read(picture(exif=exif_block(WINDOWS | {0x013B: "Ada", 0x8298: "(c) Ada"}))).words
    assert (words.title, words.caption, words.keywords) == ("Wtitle", "Wcomment", ("cat", "pet"))
    assert (words.rating, words.creator, words.copyright) == (4, "Ada", "(c) Ada")
    assert read(picture(exif=exif_block(WINDOWS | {0x010E: "A cat"}))).words.caption == "A cat"
    for boilerplate in ("OLYMPUS DIGITAL CAMERA         ", "SONY DSC", "Exif_JPEG_PICTURE", "DIGITAL CAMERA"):
        assert read(picture(exif=exif_block({0x010E: boilerplate}))).words.caption is None


def test_xmp_comes_before_iptc_before_exif():
    """Each field is that of the first of XMP, IPTC and EXIF that has it."""
    block = resource(0x0404, iptc((5, "Ititle"), (120, "Icaption"), (116, "Icopyright")))
    exif = exif_block(WINDOWS | {0x8298: "Ecopyright"})
    words = read(with_segments(picture(exif=exif, xmp=packet(dc_title="Xtitle")), photoshop(block))).words
    assert (words.title, words.caption, words.keywords) == ("Xtitle", "Icaption", ("cat", "pet"))
    assert (words.copyright, words.creator, words.rating) == ("Icopyright", "Wauthor", 4)


@pytest.mark.parametrize(("digest", "title"), [("right", "X"), ("wrong", "I"), ("zero", "X"), ("none", "X")])
def test_iptc_that_was_changed_last_comes_first(digest, title):
    """Where the checksum beside the IPTC block is not its own, a program that knows no XMP changed the block."""
    block = iptc((5, "I"))
    sums = {"right": hashlib.md5(block).digest(), "wrong": b"x" * 16, "zero": bytes(16)}
    resources = [resource(0x0404, block)] + ([resource(0x0425, sums[digest])] if digest in sums else [])
    assert read(with_segments(picture(xmp=packet(dc_title="X")), photoshop(*resources))).words.title == title


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (photoshop(resource(0x0404, iptc((5, "Cat")))[:-3]), "cut off"),
        (photoshop(resource(0x0404, iptc((5, "Cat"))) + b"nonsense and more"), "resources are broken"),
        (photoshop(resource(0x0404, iptc((5, "Cat")) + b"junk!")), "broken at byte 8"),
    ],
)
def test_broken_resources_never_reject_a_picture(broken, words):
    """The picture is described all the same, and the JSON says what is broken."""
    found = describe(with_segments(picture(), broken))
    assert found.width == 60
    assert words in json.loads(found.captions.iptc_json)["error"]


@pytest.mark.parametrize(
    ("exif", "xmp", "iptc_time", "expected"),
    [
        # (EXIF, its GPS), XMP properties, IPTC date and time -> local, offset, source
        (({}, {}), {}, None, (None, None, None)),
        (({DATE: CLOCK}, {}), {}, None, (local(2024, 6, 1, 12, 30, 20), None, "exif")),
        (({}, {}), {"xmp_CreateDate": "2020-01-01T01:00:00"}, None, (local(2020, 1, 1, 1), None, "xmp")),
        (({}, {}), {"xmp_CreateDate": "2020-01-01T01:00:00-5:00"}, None, (local(2020, 1, 1, 1), -300, "xmp+offset")),
        (({}, {}), {}, "010000", (local(2020, 1, 1, 1), None, "iptc")),
        (({}, {}), {}, "010000+0200", (local(2020, 1, 1, 1), 120, "iptc+offset")),
        # XMP comes before IPTC, even if only IPTC has an offset
        (({}, {}), {"xmp_CreateDate": "2021-01-01T01:00:00"}, "010000+0200", (local(2021, 1, 1, 1), None, "xmp")),
        # EXIF without an offset takes one from who tells the same time, and from nobody else
        (
            ({DATE: CLOCK}, {}),
            {"exif_DateTimeOriginal": "2024-06-01T12:30:20.5+02:00"},
            None,
            (local(2024, 6, 1, 12, 30, 20), 120, "exif+xmp"),
        ),
        (
            ({DATE: CLOCK}, {}),
            {"exif_DateTimeOriginal": "2024-06-01T10:30:20Z"},
            None,
            (local(2024, 6, 1, 12, 30, 20), None, "exif"),
        ),
        (({DATE: "2020:01:01 01:00:00"}, {}), {}, "010000+0200", (local(2020, 1, 1, 1), 120, "exif+iptc")),
        # an offset or a GPS time in EXIF is not overruled
        (
            ({DATE: CLOCK, OFFSET: "-5:00"}, {}),
            {"exif_DateTimeOriginal": "2024-06-01T12:30:20+02:00"},
            None,
            (local(2024, 6, 1, 12, 30, 20), -300, "exif+offset"),
        ),
        (
            ({DATE: CLOCK}, GPS),
            {"exif_DateTimeOriginal": "2024-06-01T12:30:20+05:00"},
            None,
            (local(2024, 6, 1, 12, 30, 20), 120, "exif+gps"),
        ),
        # GPS time alone: XMP has the clock, the difference is the offset; days apart, GPS is what is sure
        (({}, GPS), {"xmp_CreateDate": "2024-06-01T12:30:20"}, None, (local(2024, 6, 1, 12, 30, 20), 120, "xmp+gps")),
        (({}, GPS), {"xmp_CreateDate": "2024-06-09T12:30:20"}, None, (None, None, "gps")),
        # the time of the last change is what is left when nobody knows better
        (
            ({CHANGED: CLOCK}, {}),
            {"xmp_CreateDate": "2020-01-01T01:00:00Z"},
            None,
            (local(2020, 1, 1, 1), 0, "xmp+offset"),
        ),
        (({CHANGED: CLOCK}, {}), {}, None, (local(2024, 6, 1, 12, 30, 20), None, "exif")),
        (
            ({CHANGED: CLOCK}, {}),
            {"xmp_CreateDate": "2024-06-01T12:30:20+02:00"},
            None,
            (local(2024, 6, 1, 12, 30, 20), 120, "exif+xmp"),
        ),
    ],
)
def test_times(exif, xmp, iptc_time, expected):
    """EXIF has the first word on time, then XMP, then IPTC; an offset belongs to its own time, and none is guessed."""
    tags, gps = exif
    base = {tag: value for tag, value in tags.items() if tag == CHANGED}
    inner = {tag: value for tag, value in tags.items() if tag != CHANGED}
    options = {"exif": exif_block(base, inner, gps)} | ({"xmp": packet(**xmp)} if xmp else {})
    data = picture(**options)
    if iptc_time:
        data = with_segments(data, photoshop(resource(0x0404, iptc((55, "20200101"), (60, iptc_time)))))
    found = read(data).taken_at
    assert (found.local, found.offset_minutes, found.source) == expected
    if found.offset_minutes is not None:
        assert found.utc is not None
        assert (found.local - found.utc.replace(tzinfo=None)).total_seconds() == found.offset_minutes * 60
        assert found.utc.tzinfo is UTC
    assert all(value.split("T")[0] in (read(data).xmp_json or "") for value in xmp.values())


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("+05:30", 330),
        ("-5:00", -300),
        ("+0530", 330),
        ("+530", 330),
        ("+05", 300),
        ("-5", -300),
        ("Z", 0),
        ("z", 0),
        ("UTC", 0),
        (" +02:00 ", 120),
        ("\N{MINUS SIGN}05:00", -300),
        ("+14:00", 840),
        ("+14:15", None),
        ("+05:60", None),
        ("05:30", None),
        ("", None),
        ("   :  ", None),
        ("CEST", None),
    ],
)
def test_offsets(text, minutes):
    """Malformed offsets that can mean only one thing are read; what is none is none."""
    assert read_offset(text) == minutes


def test_the_columns_hold_it(tmp_path):
    """The step writes words, lists, times and the raw values into their columns."""
    import pyarrow as pa

    data = picture(xmp=packet(dc_title="Cat", dc_subject="pet", xmp_Rating="-1", xmp_CreateDate="2020-01-01T01:00:00Z"))
    rows = pa.table(
        {
            "uri": ["u", "v"],
            "bytes": pa.array([data, picture()], pa.large_binary()),
            "error": pa.nulls(2, pa.string()),
            "metadata": pa.nulls(2, pa.string()),
            "id": ["1", "2"],
            "known": [False, False],
        }
    )
    first, second = Describe().open()(rows.to_batches()[0]).to_pylist()
    assert (first["title"], first["keywords"], first["rating"], first["caption"]) == ("Cat", ["pet"], -1, None)
    assert (first["taken_at"], first["taken_at_source"]) == (local(2020, 1, 1, 1), "xmp+offset")
    assert json.loads(first["xmp"])["xmp:CreateDate"] == "2020-01-01T01:00:00Z"
    assert {second[name] for name in ("title", "keywords", "rating", "xmp", "iptc", "place")} == {None}


def test_mutated_files_never_raise():
    """Packets are looked for in files of every format with changed bytes: nothing is raised, whatever is found."""
    chance = random.Random(22)
    xmp = packet(dc_title="Cat")
    jpeg = with_segments(extended(xmp, packet(dc_rights="c")), photoshop(resource(0x0404, iptc((5, "Cat")))))
    seeds = [jpeg, *(picture(form, xmp=xmp) for form in ("PNG", "WEBP", "TIFF", "AVIF")), picture("GIF")]
    opened = [open_picture(seed) for seed in seeds]
    for _ in range(600):
        whole = chance.choice(opened)
        data = bytearray(whole.data)
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(min(len(data), 900))] = chance.choice([0, 0xFF, chance.randrange(256)])
        if chance.random() < 0.2:
            del data[chance.randrange(len(data)) :]
        broken = type(whole)(
            **{name: getattr(whole, name) for name in whole.__slots__} | {"data": bytes(data), "exif": bytes(data)}
        )
        find_packets(broken)
        read_captions(broken, read_exif(broken))


@pytest.mark.parametrize(
    ("name", "title", "keywords", "source"),
    [
        ("jpg/xmp/BlueSquare.jpg", "Blue Square Test File - .jpg", 5, "xmp+offset"),
        ("jpg/xmp/no_exif.jpg", "Der Goalie bin ig", 1, "xmp+offset"),
        ("jpg/mobile/jolla.jpg", None, 0, "exif+xmp"),
        ("heic/IMG_5195.HEIC", None, 0, "exif+offset"),
    ],
)
def test_files_from_the_world(name, title, keywords, source):
    """Files that Photoshop, a newspaper and phones wrote say what they say."""
    path = SHARED / "exif" / name
    if not path.exists():
        pytest.skip("the camera files of ianare/exif-samples are not here")
    found = read(path.read_bytes())
    assert (found.words.title, len(found.words.keywords), found.taken_at.source) == (title, keywords, source)
    assert json.loads(found.xmp_json)
