"""XMP packets: what they say, whatever form and encoding they are in, and what happens to broken and hostile ones."""

import json
import random
import re
from datetime import datetime

import pytest

from imagelake.pixels import xmp_tree
from imagelake.pixels.exif_time import Moment
from imagelake.pixels.words import NO_WORDS, Words
from imagelake.pixels.xmp import MAX_BYTES, Xmp, read_xmp

ADDRESSES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "x": "adobe:ns:meta/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
    "stRef": "http://ns.adobe.com/xap/1.0/sType/ResourceRef#",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "MicrosoftPhoto": "http://ns.microsoft.com/photo/1.0/",
    "own": "urn:own",
}
ALL = """
<dc:title><rdf:Alt><rdf:li xml:lang="de">Katze</rdf:li><rdf:li xml:lang="x-default">Cat</rdf:li></rdf:Alt></dc:title>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">A cat &amp; a café</rdf:li></rdf:Alt></dc:description>
<dc:subject><rdf:Bag><rdf:li>cat</rdf:li><rdf:li> pet </rdf:li><rdf:li>cat</rdf:li><rdf:li/></rdf:Bag></dc:subject>
<dc:creator><rdf:Seq><rdf:li>Ada</rdf:li><rdf:li>Bo</rdf:li></rdf:Seq></dc:creator>
<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">(c) Ada</rdf:li></rdf:Alt></dc:rights>
<lr:hierarchicalSubject><rdf:Bag><rdf:li>animal|cat</rdf:li></rdf:Bag></lr:hierarchicalSubject>
<xmpMM:DerivedFrom stRef:documentID="d1" stRef:instanceID="i1"/>
<own:place rdf:parseType="Resource"><own:city>Bern</own:city></own:place>
<own:price rdf:parseType="Resource"><rdf:value>7</rdf:value><own:unit>CHF</own:unit></own:price>
<own:link rdf:resource="https://example.org/"/>
"""
WORDS = Words("Cat", "A cat & a café", ("cat", "pet"), 4, "Ada; Bo", "(c) Ada")


def local(*parts: int) -> datetime:
    """A naive time: what a file says without a zone."""
    return datetime(*parts)  # noqa: DTZ001


def packet(body: str = "", attributes: str = "", encoding: str = "utf-8") -> bytes:
    """A packet with the properties `body` (elements) and `attributes`."""
    names = " ".join(f'xmlns:{prefix}="{address}"' for prefix, address in ADDRESSES.items())
    text = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta {names}><rdf:RDF><rdf:Description rdf:about="" {attributes}>{body}</rdf:Description></rdf:RDF>'
        f'</x:xmpmeta>{" " * 200}<?xpacket end="w"?>'
    )
    return text.encode(encoding)


def values(found: Xmp) -> dict:
    return json.loads(found.json)


def test_no_packet_is_nothing():
    """Nothing, blanks and zero bytes say nothing."""
    for nothing in (b"", b"  \n", b"\x00" * 10):
        assert read_xmp(nothing) == Xmp(NO_WORDS, (), None)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_value_is_kept(encoding):
    """All properties are in the JSON under their names, in every form that RDF has, and the words are found."""
    found = read_xmp(packet(ALL, 'xmp:Rating="4"', encoding))
    assert found.words == WORDS
    assert values(found) == {
        "xmp:Rating": "4",
        "dc:title": {"de": "Katze", "x-default": "Cat"},
        "dc:description": {"x-default": "A cat & a café"},
        "dc:subject": ["cat", "pet", "cat", ""],
        "dc:creator": ["Ada", "Bo"],
        "dc:rights": {"x-default": "(c) Ada"},
        "lr:hierarchicalSubject": ["animal|cat"],
        "xmpMM:DerivedFrom": {"stRef:documentID": "d1", "stRef:instanceID": "i1"},
        "own:place": {"own:city": "Bern"},
        "own:price": "7",
        "own:link": "https://example.org/",
    }


def test_names_are_those_of_the_standard():
    """A file may call the standard's names what it likes: the address counts."""
    text = packet("<dc:title>Plain</dc:title><xmp:Rating>2</xmp:Rating>").decode()
    other = text.replace("dc:", "d:").replace("xmlns:dc", "xmlns:d").replace("xmp:Rating", "xap:Rating")
    other = other.replace("xmlns:xmp=", "xmlns:xap=").replace("rdf:", "r:").replace("xmlns:rdf", "xmlns:r")
    assert values(read_xmp(other.encode())) == {"dc:title": "Plain", "xmp:Rating": "2"}


def test_several_descriptions_are_one():
    """Properties may be spread over descriptions; the first of a name counts. No wrapper is needed."""
    names = " ".join(f'xmlns:{prefix}="{address}"' for prefix, address in ADDRESSES.items())
    parts = '<rdf:Description dc:title="one"/><rdf:Description dc:title="two" xmp:Rating="1"/>'
    assert values(read_xmp(f"<rdf:RDF {names}>{parts}</rdf:RDF>".encode())) == {"dc:title": "one", "xmp:Rating": "1"}


@pytest.mark.parametrize(
    ("attributes", "rating"),
    [
        ("", None),
        ('xmp:Rating="-1"', -1),
        ('xmp:Rating="0"', 0),
        ('xmp:Rating="5"', 5),
        ('xmp:Rating="3.0"', 3),
        ('xmp:Rating="6"', None),
        ('xmp:Rating="-2"', None),
        ('xmp:Rating="nan"', None),
        ('xmp:Rating="five"', None),
        ('MicrosoftPhoto:Rating="0"', 0),
        ('MicrosoftPhoto:Rating="1"', 1),
        ('MicrosoftPhoto:Rating="25"', 2),
        ('MicrosoftPhoto:Rating="50"', 3),
        ('MicrosoftPhoto:Rating="75"', 4),
        ('MicrosoftPhoto:Rating="99"', 5),
        ('MicrosoftPhoto:Rating="101"', None),
        ('xmp:Rating="1" MicrosoftPhoto:Rating="99"', 1),
    ],
)
def test_ratings(attributes, rating):
    """-1 (rejected) to 5; what Windows writes in percent is read where there is no other; the rest is no rating."""
    assert read_xmp(packet("", attributes)).words.rating == rating


@pytest.mark.parametrize(
    ("attributes", "moments"),
    [
        ('xmp:CreateDate="2024-06-01T12:30:00"', [(local(2024, 6, 1, 12, 30), None)]),
        ('xmp:CreateDate="2024-06-01T12:30+02:00"', [(local(2024, 6, 1, 12, 30), 120)]),
        ('xmp:CreateDate="2024-06-01T12:30:00.25Z"', [(local(2024, 6, 1, 12, 30, 0, 250_000), 0)]),
        ('xmp:CreateDate="2024-06-01T12:30:00-5:00"', [(local(2024, 6, 1, 12, 30), -300)]),
        ('xmp:CreateDate="2024-06-01T12:30:00+0530"', [(local(2024, 6, 1, 12, 30), 330)]),
        ('xmp:CreateDate="2024-06-01T12:30:00+05"', [(local(2024, 6, 1, 12, 30), 300)]),
        ('xmp:CreateDate="2024-06-01T12:30:00+25:00"', [(local(2024, 6, 1, 12, 30), None)]),
        ('xmp:CreateDate="2024-06-01"', []),
        ('xmp:CreateDate="2024"', []),
        ('xmp:CreateDate="0000-00-00T00:00:00Z"', []),
        ('xmp:CreateDate="soon"', []),
        (
            'xmp:CreateDate="2024-06-03T00:00:00" exif:DateTimeOriginal="2024-06-01T12:30:00"',
            [(local(2024, 6, 1, 12, 30), None), (local(2024, 6, 3), None)],
        ),
        ('photoshop:DateCreated="2003-09-04" xmp:CreateDate="2005-12-17T22:03:32Z"', []),
        (
            'photoshop:DateCreated="2003-09-04" xmp:CreateDate="2003-09-04T22:03:32Z"',
            [(local(2003, 9, 4, 22, 3, 32), 0)],
        ),
    ],
)
def test_times(attributes, moments):
    """Times are read with the zone that is written, and none is guessed; a date alone is no time."""
    found = read_xmp(packet("", attributes))
    assert found.moments == tuple(Moment(local, offset) for local, offset in moments)
    assert set(values(found)) == {name.split("=")[0] for name in attributes.split()}  # the raw values are kept


BOMB = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol">{}]>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{}"><rdf:Description xmlns:dc="{}">
<dc:title>&j;</dc:title></rdf:Description></rdf:RDF></x:xmpmeta>"""


def test_entities_are_refused(tmp_path):
    """A billion laughs, a file that is included and a document type of any kind: refused before they are read."""
    laughs = "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for entities in (
        laughs,
        f'<!ENTITY j SYSTEM "{secret.as_uri()}">',
        '<!ENTITY % j SYSTEM "http://127.0.0.1:9/">',
        "",
    ):
        found = read_xmp(BOMB.format(entities, ADDRESSES["rdf"], ADDRESSES["dc"]).encode())
        assert values(found) == {"error": "the XMP packet is broken: it has a document type, which XMP does not allow"}
        assert found.words == NO_WORDS


def test_a_broken_packet_keeps_what_came_before():
    """A packet that is cut off or not well-formed says what it said before, and where it breaks."""
    whole = packet(ALL)
    cut = whole[: whole.index(b"<dc:creator")]
    found = read_xmp(cut)
    assert (found.words.title, found.words.keywords, found.words.creator) == ("Cat", ("cat", "pet"), None)
    assert "well-formed" in values(found)["error"]
    found = read_xmp(packet("<dc:title>Cat</dc:title><dc:rights>(c)</dc:wrong>"))
    assert found.words.title == "Cat"
    assert "mismatched tag" in values(found)["error"]


def test_letters_that_are_not_utf_8_spoil_only_themselves():
    """A packet in Latin-1 that says nothing of it is read, its umlauts are not; the JSON says so."""
    found = read_xmp(packet("<dc:title>caf\xe9</dc:title>", 'xmp:Rating="5"').replace(b"\xc3\xa9", b"\xe9"))
    assert (found.words.title, found.words.rating) == ("caf\ufffd", 5)
    assert values(found)["error"] == "some letters of the XMP packet are not UTF-8"


def test_sizes_are_bounded():
    """Too large, too deep, too many parts: what is inside the bound is kept. Values too long are left out."""
    too_large = read_xmp(packet("<dc:title>Cat</dc:title>" + " " * MAX_BYTES))
    assert list(values(too_large)) == ["error"]
    deep = read_xmp(packet("<dc:title>Cat</dc:title>" + "<own:a>" * 100_000))
    assert deep.words.title == "Cat"
    assert "deeper" in values(deep)["error"]
    many = read_xmp(packet("<dc:title>Cat</dc:title>" + "<own:a/>" * xmp_tree.MAX_PARTS))
    assert many.words.title == "Cat"
    assert "parts" in values(many)["error"]
    long = read_xmp(packet(f"<dc:title>Cat</dc:title><own:depth>{'a' * (xmp_tree.MAX_LETTERS + 1)}</own:depth>"))
    assert values(long) == {"dc:title": "Cat"}
    items = "<rdf:li>k</rdf:li>" * (xmp_tree.MAX_ITEMS + 5)
    assert (
        len(values(read_xmp(packet(f"<own:all><rdf:Bag>{items}</rdf:Bag></own:all>")))["own:all"]) == xmp_tree.MAX_ITEMS
    )


def test_mutations_never_raise():
    """Whatever bytes of a packet are changed, taken or doubled: no error comes out, and the JSON is JSON."""
    seeds = [packet(ALL, 'xmp:Rating="4"'), packet(ALL, encoding="utf-16"), BOMB.format("", "a", "b").encode()]
    chance = random.Random(20)
    marks = [
        b"<",
        b">",
        b"&",
        b'"',
        b"]]>",
        b"<!DOCTYPE a [",
        b"&#xD800;",
        b"\x00",
        b"\xff\xfe",
        b"xmlns:dc=''",
        b"rdf:li",
    ]
    for _ in range(600):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(data))
            change = chance.randrange(4)
            if change == 0:
                data[at] = chance.randrange(256)
            elif change == 1:
                del data[at : at + chance.randint(1, 60)]
            elif change == 2:
                data[at:at] = chance.choice(marks)
            else:
                data[at:at] = data[at : at + chance.randint(1, 200)]
            data = data or bytearray(b"<")
        found = read_xmp(bytes(data), bytes(data[: chance.randrange(50)]))
        json.dumps(json.loads(found.json or "{}"), allow_nan=False).encode()
        assert all(not re.search("[\ud800-\udfff]", text) for text in found.words.keywords)
