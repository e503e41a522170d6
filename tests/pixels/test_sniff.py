from __future__ import annotations

import pytest

from imagelake.pixels.sniff import IMAGE_SUFFIXES, RAW_SUFFIXES, name_other, sniff
from pictures import every_picture


def test_nothing_is_no_picture():
    """No bytes have no format."""
    assert sniff(b"") is None


@pytest.mark.parametrize(("name", "data"), every_picture().items())
def test_every_format_is_told_by_its_first_bytes(name, data):
    """The first 64 bytes are enough to tell the format."""
    assert sniff(data[:64]) == name.split()[0]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "heic"),
        (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1heic", "heic"),
        (b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1avifmiaf", "avif"),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00isommp42", None),
        (b"BM is how a text may begin", None),
    ],
)
def test_brands_decide_between_the_media_formats(head, expected):
    """The `ftyp` box says what a media file is."""
    assert sniff(head) == expected


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (b"<!DOCTYPE html><html>", "HTML"),
        (b'{"error": "not found"}', "JSON"),
        (b"hello world\n", "text"),
        (b"%PDF-1.7", "PDF"),
        (bytes(64), "zero"),
        (b"<svg xmlns=", "SVG"),
        (b"\x00\x00\x00\x18ftypcrx ", "raw"),
        (b"\x9a\x03\x17\xfe", "unknown"),
    ],
)
def test_other_files_have_names(head, word):
    """What is no picture is named in words."""
    assert word in name_other(head)


def test_suffixes_are_lower_case_with_a_dot_and_disjoint():
    """A name's ending is looked up lower case, with its dot, and is never both kinds."""
    assert not IMAGE_SUFFIXES & RAW_SUFFIXES
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in IMAGE_SUFFIXES | RAW_SUFFIXES)
