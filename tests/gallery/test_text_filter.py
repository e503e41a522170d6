"""Words find images, and no text is anything else than words."""

import json
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from gallery_rows import COUNT, HOSTILE, image, write
from hypothesis import given, settings
from hypothesis import strategies as st

from imagelake.gallery.catalog import read_catalog
from imagelake.gallery.exif_words import Found, exif_values
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.selection import Selection, rows_of
from imagelake.gallery.text_filter import knows_exif, words_of
from imagelake.gallery.words import fold


@pytest.fixture(scope="module")
def rows() -> list:
    return [image(number) for number in range(COUNT)]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory, rows) -> Gallery:
    return Gallery(write(tmp_path_factory.mktemp("lake") / "l", rows).tables, None)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("PHOTO 12.jpg", lambda n: n == 12),
        ("straßen", lambda n: n % 3 == 1),
        ("STRASSEN", lambda n: n % 3 == 1),
        ("写真 eos", lambda _: None),
        ("\uff53\uff35nset", lambda n: n % 10 == 0),
        ("café", lambda n: n == 9),
        ("cafe\u0301 sea", lambda n: n == 9),
        ('"by the sea"', lambda n: n == 9),
        ('"sea the by"', lambda _: False),
        ("kyoto", lambda n: n % 8 == 0),
        (HOSTILE, lambda n: n == 5),
        ("' OR 1=1 --", lambda _: False),
        ("%", lambda _: False),
        ("\\ \x00 \ud800", lambda _: False),
        ("   ", lambda _: True),
    ],
)
def test_text_finds_by_words(gallery, rows, text, column):
    """All words must occur somewhere, whatever their case, width or composition; none is a pattern or SQL."""
    found = set(gallery.catalog().ids_of(rows_of(gallery, Selection(text=text))))
    wanted = {row["id"] for number, row in enumerate(rows) if column(number)}
    if text == "写真 eos":
        wanted = {row["id"] for n, row in enumerate(rows) if n % 3 == 2 and "EOS" in str(row["camera_model"])}
    assert found == wanted


def test_text_finds_values_of_exif(gallery, rows):
    """EXIF is searched by its values, nested ones too, not by the names of its fields."""
    with_exif = {row["id"] for row in rows if row["exif"]}
    for text in ("darktable", "4.8", "zeiss", "zeiss 35"):
        assert set(gallery.catalog().ids_of(rows_of(gallery, Selection(text=text)))) == with_exif
    assert not len(rows_of(gallery, Selection(text="nested")))


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_hostile_text_is_text(gallery, text):
    """Any text selects a part of the images, and finds the image that is called so."""
    found = rows_of(gallery, Selection(text=text))
    assert len(found) <= COUNT
    assert fold(unicodedata.normalize("NFD", text)) == fold(unicodedata.normalize("NFC", text))


def test_exif_of_any_shape_is_read():
    """EXIF that is no JSON, or deep, or holds numbers and lists, gives texts and never fails."""
    assert list(exif_values("no json")) == []
    assert list(exif_values("[" * 100_000)) == []
    assert sorted(exif_values('{"a": 1.5, "b": [1, 2], "c": null, "d": true, "e": "x"}')) == ["1 2", "1.5", "x"]
    assert words_of('"a b" a  A') == ["a b", "a"]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
    | st.sampled_from(['a,', ',"', '":{"', "x}", "{", '"', "\\", "A:B", "", ":{", "1,2"]),
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.lists(st.dictionaries(st.text(max_size=6), _VALUES, max_size=6), min_size=1, max_size=4), st.booleans())
@settings(max_examples=200, deadline=None)
def test_exif_cut_into_members_has_the_values_of_json(wholes, ascii_only):
    """However commas, braces and quotes stand in EXIF: an image has the values that its JSON has, and no others."""
    texts = [json.dumps(each, ensure_ascii=ascii_only, separators=(",", ":")) for each in wholes]
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    found = Found()
    found.read(np.arange(len(texts), dtype=np.int32), pa.array(texts))
    words = found.words()
    values = words.values.to_pylist()
    assert len(set(values)) == len(values)
    for row, text in enumerate(texts):
        own = {values[code] for code in words.codes[words.rows == row].tolist()} - {""}
        assert own == {
            folded for value in exif_values(text) if (folded := fold(value).encode("utf-8", "replace").decode())
        }


def test_words_of_names_do_not_wait_for_exif(tmp_path, rows):
    """While EXIF is being read, who is in a hurry gets what names, labels and tags say, and is told so; others wait."""
    gallery = Gallery(write(tmp_path / "l", rows).tables, None)
    catalog = read_catalog(gallery.tables)
    assert not knows_exif(catalog)
    assert len(rows_of(gallery, Selection(text="photo 12.jpg", hurry=True), catalog)) == 1
    assert len(rows_of(gallery, Selection(text="darktable", hurry=True), catalog)) == 0
    assert not knows_exif(catalog)
    assert len(rows_of(gallery, Selection(text="darktable"), catalog)) == sum(bool(row["exif"]) for row in rows)
    assert knows_exif(catalog)
    assert len(rows_of(gallery, Selection(text="darktable", hurry=True), catalog)) > 0
