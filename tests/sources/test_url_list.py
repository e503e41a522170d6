"""What lists of addresses yield: each row once, with what the other columns say, whatever the kind of file."""

import datetime as dt
import decimal
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagelake.errors import InputError
from imagelake.files import path_to_uri
from imagelake.sources import url_list
from imagelake.sources.url_list import Address, read_url_list


def write(folder, name, content):
    path = folder / name
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def rows(folder, name, content, column=None):
    return list(read_url_list(write(folder, name, content), column))


def refusal(folder, name, content, column=None):
    with pytest.raises(InputError) as caught:
        rows(folder, name, content, column)
    return str(caught.value)


@pytest.mark.parametrize("name", ["urls.txt", "urls", "urls.txt.gz"])
def test_text_without_lines_yields_nothing(tmp_path, name):
    """No addresses."""
    assert rows(tmp_path, name, "") == []


@pytest.mark.parametrize("name", ["urls.txt", "urls", "urls.list", "urls.txt.gz"])
def test_text_has_one_address_a_line(tmp_path, name):
    """Empty lines and comments are skipped; so are a byte order mark, spaces around, and the ends of Windows."""
    content = "\ufeffhttp://h/1\r\n\n  # a comment\n \t http://h/é \nnot an address"
    assert rows(tmp_path, name, content) == [Address("http://h/1"), Address("http://h/é"), Address("not an address")]
    assert read_url_list(tmp_path / name).estimate() == 3
    assert read_url_list(tmp_path / name).name == path_to_uri(tmp_path / name)


def test_a_list_can_be_read_twice(tmp_path):
    """Each pass begins at the first address."""
    found = read_url_list(write(tmp_path, "urls.csv", "url\nhttp://h/1\n"))
    assert list(found) == list(found) == [Address("http://h/1")]


def test_bytes_that_are_not_utf8_stay_in_the_address(tmp_path):
    """Percent-encoded, as the address means them."""
    assert rows(tmp_path, "urls.txt", b"http://h/\xff\n") == [Address("http://h/%FF")]
    assert rows(tmp_path, "urls.csv", b"url,a\nhttp://h/\xff,\xff\n") == [Address("http://h/%FF", '{"a": "\ufffd"}')]


def test_a_table_with_a_header_alone_yields_nothing(tmp_path):
    """Where the header names the column."""
    assert rows(tmp_path, "urls.csv", "url,label\n") == []


@pytest.mark.parametrize(
    ("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t"), ("a.csv", "\t"), ("a.csv.gz", ",")]
)
def test_the_other_columns_are_kept(tmp_path, name, delimiter):
    """Numbers as numbers, text as text, labels as a list; what is empty is left out."""
    lines = [
        ["id", "URL", "label", "price", "code", "note"],
        ["1", "http://h/1", "cat", "1.50", "007", '"two\nlines"'],
        ["2", "http://h/2", "7", "", "010", ""],
    ]
    found = rows(tmp_path, name, "\n".join(delimiter.join(line) for line in lines))
    assert [row.url for row in found] == ["http://h/1", "http://h/2"]
    assert json.loads(found[0].metadata) == {
        "id": 1, "price": 1.5, "code": "007", "note": "two\nlines", "labels": ["cat"],
    }  # fmt: skip
    assert json.loads(found[1].metadata) == {"id": 2, "code": "010", "labels": ["7"]}


def test_a_value_far_below_breaks_nothing(tmp_path, monkeypatch):
    """A column of numbers may hold a word in the end, in another block of the file; it stays a word."""
    monkeypatch.setattr(url_list, "_BLOCK_BYTES", 256)
    lines = [f"http://h/{number},{number}" for number in range(100)]
    found = rows(tmp_path, "urls.csv", "\n".join(["url,n", *lines, "http://h/last,none"]))
    assert [row.url for row in found] == [f"http://h/{number}" for number in range(100)] + ["http://h/last"]
    assert [json.loads(row.metadata)["n"] for row in found] == [*range(100), "none"]


def test_rows_that_do_not_fit_are_rows(tmp_path, monkeypatch):
    """Too many fields, too few, or no address: each has a URI of its own and the reason."""
    monkeypatch.setattr(url_list, "_BLOCK_BYTES", 64)
    bad = {3: "http://h/x", 7: "http://h/x,1,2", 11: ",5", 30: "http://h/y"}
    lines = [bad.get(number, f"http://h/{number},{number}") for number in range(2, 40)]
    found = {row.url: row for row in rows(tmp_path, "urls.csv", "\n".join(["url,n", *lines]))}
    assert len(found) == 38
    uri = path_to_uri(tmp_path / "urls.csv")
    assert {row.url for row in found.values() if row.error} == {f"{uri}#row={number}" for number in bad}
    assert "1 fields where the header has 2" in found[f"{uri}#row=3"].error
    assert "'url' is empty" in found[f"{uri}#row=11"].error


def test_parquet_keeps_its_types(tmp_path):
    """Times become ISO 8601, bytes are left out, what JSON does not know becomes null or text."""
    moment = dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.UTC)
    table = pa.table(
        {
            "url": pa.array(["http://h/1", None]).dictionary_encode(),
            "n": pa.array([1, None]),
            "nan": [float("nan"), 0.5],
            "at": pa.array([moment, None], pa.timestamp("ns", "UTC")),
            "day": [dt.date(2024, 5, 6), None],
            "price": pa.array([decimal.Decimal("1.5"), None]),
            "raw": [b"x", b"y"],
            "deep": [{"a": [1, b"x"[0]], "b": b"x"}, None],
            "labels": [["cat", "dog"], []],
            "label": ["cat", "bird"],
        }
    )
    pq.write_table(table, tmp_path / "urls.parquet")
    found = read_url_list(tmp_path / "urls.parquet")
    assert found.estimate() == 2
    first, second = found
    assert first.url == "http://h/1"
    assert json.loads(first.metadata) == {
        "n": 1, "at": "2024-05-06T07:08:09+00:00", "day": "2024-05-06", "price": 1.5,
        "deep": {"a": [1, 120], "b": None}, "labels": ["cat", "dog"],
    }  # fmt: skip
    assert second == Address(
        path_to_uri(tmp_path / "urls.parquet") + "#row=3",
        '{"nan": 0.5, "labels": ["bird"]}',
        "the column 'url' is empty",
    )


def test_an_empty_parquet_yields_nothing(tmp_path):
    """Where a column is named so."""
    pq.write_table(pa.table({"url": pa.array([], pa.string())}), tmp_path / "urls.parquet")
    assert list(read_url_list(tmp_path / "urls.parquet")) == []


def test_the_column_of_addresses_is_found(tmp_path):
    """The one that is asked for; else the one with such a name; else the only one with such values."""
    content = "page,image_url,n\nhttp://p/,http://h/1,1\n"
    assert rows(tmp_path, "a.csv", content)[0].url == "http://h/1"
    assert rows(tmp_path, "a.csv", content, "page")[0].url == "http://p/"
    assert rows(tmp_path, "a.csv", "n,where\n1,HTTPS://h/1\n")[0].url == "HTTPS://h/1"
    pq.write_table(pa.table({"n": [1], "where": ["http://h/1"]}), tmp_path / "a.parquet")
    assert next(iter(read_url_list(tmp_path / "a.parquet"))).url == "http://h/1"


def test_what_is_not_clear_is_refused(tmp_path):
    """The message names the columns that there are and what to do."""
    assert "'url', 'link'" in refusal(tmp_path, "a.csv", "url,link\nhttp://h/1,http://h/2\n")
    assert "'a', 'b'" in refusal(tmp_path, "a.csv", "a,b\nhttp://h/1,http://h/2\n")
    assert "'n', 'm'" in refusal(tmp_path, "a.csv", "n,m\n1,2\n")
    assert "'n', 'm'" in refusal(tmp_path, "a.csv", "n,m\n1,2\n", "url")
    assert "more than one column 'url'" in refusal(tmp_path, "a.csv", "url,url\n1,2\n")
    assert "header" in refusal(tmp_path, "a.csv", "http://h/1\nhttp://h/2\n")
    assert "no column 'url'" in refusal(tmp_path, "a.txt", "http://h/1\n", "url")
    pq.write_table(pa.table({"url": [1]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="int64"):
        read_url_list(tmp_path / "a.parquet")


def test_what_is_no_list_is_refused(tmp_path):
    """A missing file, a folder, pictures, other encodings, tables that are none: before the first address."""
    with pytest.raises(InputError, match="does not exist"):
        read_url_list(tmp_path / "nowhere.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read_url_list(tmp_path)
    assert "binary" in refusal(tmp_path, "a.txt", b"\x89PNG\r\n\0")
    assert "UTF-16" in refusal(tmp_path, "a.csv", "url\n".encode("utf-16"))
    assert "cannot be read" in refusal(tmp_path, "a.csv", "")
    assert "cannot be read" in refusal(tmp_path, "a.parquet", "url\n")
    (tmp_path / "a.txt.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match="cannot be read"):
        read_url_list(tmp_path / "a.txt.gz")


def test_a_list_that_ends_too_early_says_so(tmp_path):
    """After the addresses that can be read."""
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"".join(b"http://h/%d\n" % n for n in range(9000)))[:-100])
    with pytest.raises(InputError, match="to its end"):
        list(read_url_list(path))
