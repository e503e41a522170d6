"""IPTC blocks: every data set, every charset that is met, and what happens to broken ones."""

import json
import random
import struct
from datetime import datetime

import pytest

from imagelake.pixels.exif_time import Moment
from imagelake.pixels.iptc import MAX_BYTES, MAX_SETS, Iptc, read_iptc
from imagelake.pixels.words import NO_WORDS, Words

UTF_8 = (1, 90, b"\x1b%G")


def local(*parts: int) -> datetime:
    """A naive time: what a file says without a zone."""
    return datetime(*parts)  # noqa: DTZ001


def data_set(record: int, number: int, value: bytes) -> bytes:
    """One data set; a value of 32 KiB or more has its length in four bytes more."""
    if len(value) >= 0x8000:
        return struct.pack(">BBBHI", 0x1C, record, number, 0x8004, len(value)) + value
    return struct.pack(">BBBH", 0x1C, record, number, len(value)) + value


def block(*sets: tuple[int, int, bytes]) -> bytes:
    return b"".join(data_set(*each) for each in sets)


def values(found: Iptc) -> dict:
    return json.loads(found.json)


FULL = [
    UTF_8,
    (2, 0, b"\x00\x04"),
    (2, 5, b"Cat"),
    (2, 25, b"cat"),
    (2, 25, b" pet"),
    (2, 25, b"cat"),
    (2, 55, b"20240601"),
    (2, 60, b"123000+0200"),
    (2, 80, b"Ada"),
    (2, 80, b"Bo"),
    (2, 116, b"(c) Ada"),
    (2, 120, "A café".encode()),
    (2, 221, b"label"),
    (3, 10, b"\x00\xff"),
]


def test_no_block_is_nothing():
    """No bytes say nothing."""
    assert read_iptc(b"") == Iptc(NO_WORDS, (), None)


def test_every_value_is_kept():
    """All data sets are in the JSON under their names or numbers, those that may repeat as lists; words are found."""
    found = read_iptc(block(*FULL) + bytes(3))
    assert found.words == Words("Cat", "A café", ("cat", "pet"), None, "Ada; Bo", "(c) Ada")
    assert found.moments == (Moment(local(2024, 6, 1, 12, 30), 120),)
    assert values(found) == {
        "CodedCharacterSet": "UTF-8",
        "ApplicationRecordVersion": 4,
        "ObjectName": "Cat",
        "Keywords": ["cat", " pet", "cat"],
        "DateCreated": "20240601",
        "TimeCreated": "123000+0200",
        "By-line": ["Ada", "Bo"],
        "CopyrightNotice": "(c) Ada",
        "Caption-Abstract": "A café",
        "2:221": "label",
        "3:10": "00ff",
    }


@pytest.mark.parametrize(
    ("sets", "title"),
    [
        ([UTF_8, (2, 5, "Käse €".encode())], "Käse €"),
        ([(2, 5, "Käse €".encode())], "Käse €"),
        ([(2, 5, "Käse".encode("latin-1"))], "Käse"),
        ([UTF_8, (2, 5, "Käse".encode("latin-1"))], "Käse"),
        ([(1, 90, b"\x1b.A"), (2, 5, "Käse".encode("latin-1"))], "Käse"),
        ([(1, 90, b"\x1b.A"), (2, 5, b"K\xc3\xa4se")], "KÃ¤se"),
        ([(1, 90, b"\x1b$B"), (2, 5, b"Kase")], "Kase"),
        ([(2, 5, b"Kase\x00\x00")], "Kase"),
        ([(2, 5, b"  ")], None),
    ],
)
def test_charsets(sets, title):
    """UTF-8 where the block says so or the bytes are it; Latin-1 where it says so or the bytes are no UTF-8."""
    assert read_iptc(block(*sets)).words.title == title


@pytest.mark.parametrize(
    ("date", "clock", "moment"),
    [
        (b"20240601", b"123000+0200", Moment(local(2024, 6, 1, 12, 30), 120)),
        (b"20240601", b"123000-0530", Moment(local(2024, 6, 1, 12, 30), -330)),
        (b"20240601", b"123000", Moment(local(2024, 6, 1, 12, 30))),
        (b"2024-06-01", b"12:30:00+02:00", Moment(local(2024, 6, 1, 12, 30), 120)),
        (b"20240601", b"", None),
        (b"20240600", b"123000", None),
        (b"00000000", b"000000+0000", None),
        (b"soon", b"later", None),
    ],
)
def test_times(date, clock, moment):
    """Date and time are one moment, with the offset that is written; a date alone is none."""
    found = read_iptc(block((2, 55, date), (2, 60, clock)))
    assert found.moments == ((moment,) if moment else ())
    assert values(found)["DateCreated"] == date.decode()


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (block((2, 5, b"Cat")) + b"\x1c\x02\x19\x00\x09abc", "cut off inside data set 2:25"),
        (block((2, 5, b"Cat")) + b"\x1c", "cut off inside"),
        (block((2, 5, b"Cat")) + b"garbage", "broken at byte 8"),
        (block((2, 5, b"Cat")) + b"\x1c\x02\x19\xff\xff", "cut off inside data set 2:25"),
        (block((2, 5, b"Cat"), *[(2, 25, b"k")] * MAX_SETS), "more than 2,000 data sets"),
        (block((2, 5, b"Cat"), *[(3, 7, bytes(30_000))] * 40), f"{MAX_BYTES:,} were read"),
    ],
)
def test_a_broken_block_keeps_what_came_before(broken, words):
    """What can be read is kept; the JSON says where it ends."""
    found = read_iptc(broken)
    assert found.words.title == "Cat"
    assert words in values(found)["error"]


def test_long_values_are_left_out():
    """A value longer than the standard allows, such as a preview, is not in the JSON; what follows it is."""
    found = read_iptc(block((2, 202, bytes(70_000)), (2, 120, b"x" * 32_768), (2, 5, b"Cat")))
    assert values(found) == {"ObjectName": "Cat"}


def test_mutations_never_raise():
    """Whatever bytes of a block are changed, taken or doubled: no error comes out, and the JSON is JSON."""
    seed, chance = block(*FULL), random.Random(21)
    for _ in range(600):
        data = bytearray(seed)
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(data))
            change = chance.randrange(3)
            if change == 0:
                data[at] = chance.choice([0x1C, 0x80, 0xFF, 0, chance.randrange(256)])
            elif change == 1:
                del data[at : at + chance.randint(1, 30)]
            else:
                data[at:at] = data[at : at + chance.randint(1, 60)]
            data = data or bytearray(b"\x1c")
        json.dumps(json.loads(read_iptc(bytes(data)).json or "{}"), allow_nan=False).encode()
