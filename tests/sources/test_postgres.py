"""Pictures in PostgreSQL: a real server, started once for all of these tests."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
from urllib.parse import quote

import pytest
from sources.misbehaving_server import PICTURE, MisbehavingServer
from sources.postgres_server import find_binaries, running_server

import imagelake
from imagelake import schema
from imagelake.errors import InputError
from imagelake.sources import postgres as postgres_module
from imagelake.sources.folder import BATCH_ROWS
from imagelake.sources.postgres import open_postgres
from imagelake.sources.postgres_server import literal, parse_server
from imagelake.sources.web import WebOptions
from imagelake.sources.web_guard import Guard
from pictures import encode, make_image
from places import ROOT

pytest.importorskip("adbc_driver_postgresql", reason="the extra `postgres` is not installed")
PICTURES = [encode(make_image(seed, 40, 30)) for seed in range(8)]
PASSWORD = "s3cr@t/pa:ss?#%"


@pytest.fixture(scope="module")
def server():
    """The server; the role `reader` needs its password, everybody else comes in."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed: there is no initdb on PATH or in /usr/lib/postgresql")
    with running_server(binaries, hba="host all reader 127.0.0.1/32 scram-sha-256") as running:
        running.psql(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")
        running.psql("CREATE DATABASE shop")
        yield running


@pytest.fixture
def shop(server):
    """An empty database; a function that runs SQL in it."""
    sweep = (
        'DROP SCHEMA IF EXISTS public, "Old.Shop" CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO reader'
    )
    server.psql(f"SET client_min_messages = error; {sweep}", database="shop")
    return lambda *statements: server.psql(*statements, database="shop")


@pytest.fixture
def address(server, shop):
    return server.address("shop")


def cell(data):
    return f"'\\x{data.hex()}'::bytea"


def fill(shop, keys, kind="bigint", table="products"):
    """A table with a picture, a price and a label for each key; its pictures are `data_of(key)`."""
    shop(f"CREATE TABLE {table} (id {kind} PRIMARY KEY, picture bytea, price numeric, label text)")
    for start in range(0, len(keys), 500):
        rows = [f"({literal(str(key))}, {cell(data_of(key))}, 1.5, 'shoe')" for key in keys[start : start + 500]]
        shop(f"INSERT INTO {table} VALUES {', '.join(rows)}")


def data_of(key):
    return f"picture of {key}".encode()


def rows_of(source):
    return [row for batch in source.batches() for row in batch.to_pylist()]


def keys_of(source):
    return [row["uri"].partition("id=")[2] for row in rows_of(source)]


# What comes


def test_an_empty_table_yields_nothing(shop, address):
    """No rows, no error, and one part of it is as empty as the whole."""
    fill(shop, [])
    source = open_postgres(address, table="products")
    assert rows_of(source) == []
    assert source.estimate() == 0
    assert [rows_of(part) for part in source.parts(4)] == [[]]
    assert rows_of(open_postgres(address, table="products", part="3/4")) == []


def test_a_row_is_its_bytes_its_address_and_its_other_columns(server, shop, address):
    """Batches are of the schema and small; URI and metadata say what the table says."""
    fill(shop, range(70))
    source = open_postgres(address, table="products")
    batches = list(source.batches())
    assert all(batch.schema.equals(schema.SOURCE) and batch.num_rows <= BATCH_ROWS for batch in batches)
    base = f"postgresql://127.0.0.1:{server.port}/shop/products"
    assert source.name == base
    assert source.estimate() == 70
    assert rows_of(source) == [
        {
            "uri": f"{base}?id={key}",
            "bytes": data_of(key),
            "error": None,
            "metadata": f'{{"id":{key},"price":1.5,"labels":["shoe"]}}',
        }
        for key in range(70)
    ]


@pytest.mark.parametrize("beside", ["", ", '{}'::json AS more"])
def test_metadata_is_the_same_whoever_makes_it(shop, address, beside):
    """The server, where all columns are plain values, or this side: nulls are left out, the label is a list."""
    row = (
        "1 AS id, ''::bytea AS p, 'é\"\\\n' AS t, NULL::text AS n, 7 AS \"Class\","
        " 'NaN'::float8 AS f, 2.5::real AS r, true AS b"
    )
    (found,) = rows_of(open_postgres(address, query=f"SELECT {row}{beside}"))
    known = json.loads(found["metadata"])
    assert known.pop("more", {}) == {}
    assert known == {"id": 1, "t": 'é"\\\n', "f": "NaN", "r": 2.5, "b": True, "labels": ["7"]}


def test_columns_of_every_kind_become_metadata(shop, address):
    """Times are ISO 8601, JSON and arrays stay what they are, bytes are left out, and no name is too odd."""
    shop("CREATE DOMAIN photo AS bytea", "CREATE TYPE size AS ENUM ('s', 'm')")
    shop(
        'CREATE TABLE "Odd ""Table""" ("the id" uuid PRIMARY KEY, o photo, taken timestamptz, day date, attributes'
        ' jsonb, label text[], size size, "q.id" inet, hashes bytea[], nothing text, ok boolean)',
        'INSERT INTO "Odd ""Table""" VALUES (\'00000000-0000-0000-0000-0000000000ab\', \'\\x01\','
        " '2024-05-01 12:00:00.25+02', '2024-05-01', '{\"color\": {\"name\": \"é\"}}', '{hat,red}', 'm', '10.0.0.1',"
        " '{\"\\\\x00\"}', NULL, true)",
    )
    (row,) = rows_of(open_postgres(address, table='Odd "Table"'))
    assert row["bytes"] == b"\x01"
    assert row["uri"].endswith("/shop/Odd%20%22Table%22?id=00000000-0000-0000-0000-0000000000ab")
    assert json.loads(row["metadata"]) == {
        "the id": "00000000-0000-0000-0000-0000000000ab",
        "taken": "2024-05-01T10:00:00.25+00:00",
        "day": "2024-05-01",
        "attributes": {"color": {"name": "é"}},
        "labels": ["hat", "red"],
        "size": "m",
        "q.id": "10.0.0.1",
        "ok": True,
    }


def test_a_row_without_a_picture_is_a_row_with_the_reason(shop, address, monkeypatch):
    """NULL and too large are told apart; an empty picture is one of no bytes."""
    monkeypatch.setattr(postgres_module, "MAX_FILE_BYTES", 1000)
    shop(
        "CREATE TABLE t (id int PRIMARY KEY, picture bytea)",
        "INSERT INTO t VALUES (1, NULL), (2, decode(repeat('00', 1001), 'hex')), (3, ''), (4, '\\x07')",
    )
    assert [(row["bytes"], row["error"]) for row in rows_of(open_postgres(address, table="t"))] == [
        (None, "the column 'picture' is null in this row"),
        (None, "the picture has 1,001 bytes; the limit is 1,000"),
        (b"", None),
        (b"\x07", None),
    ]


def test_a_query_is_a_source(server, shop, address):
    """Joins, comments and a semicolon at the end; its name is the same however it is spaced at the ends."""
    fill(shop, range(5))
    text = "SELECT p.id, p.picture, 'x' AS brand FROM products p WHERE id > 1 -- not the old ones"
    source = open_postgres(address, query=text)
    assert keys_of(source) == ["2", "3", "4"]
    assert json.loads(rows_of(source)[0]["metadata"]) == {"id": 2, "brand": "x"}
    assert re.fullmatch(rf"postgresql://127.0.0.1:{server.port}/shop/query-[0-9a-f]{{12}}", source.name)
    assert open_postgres(address, query=f"\n{text}\n").name == source.name
    assert open_postgres(address, query="SELECT * FROM products;").estimate() >= 0


def test_a_table_has_a_schema_and_a_name(shop, address):
    """A name counts as written, then as SQL reads it; views and partitions are tables too."""
    shop('CREATE SCHEMA "Old.Shop"')
    fill(shop, [1], table='"Old.Shop"."Pictures"')
    fill(shop, [2], table="pictures")
    shop("CREATE VIEW seen AS SELECT * FROM pictures")
    assert keys_of(open_postgres(address, table='"Old.Shop"."Pictures"')) == ["1"]
    assert rows_of(open_postgres(address, table='"Old.Shop"."Pictures"'))[0]["uri"].endswith(
        "/shop/Old%2EShop.Pictures?id=1"
    )
    for name in ("pictures", "Pictures", "public.pictures"):
        assert rows_of(open_postgres(address, table=name))[0]["uri"].endswith("/shop/pictures?id=2")
    assert keys_of(open_postgres(address, table="seen", id_column="id")) == ["2"]


# Keys: order, pages, resuming, parts

WORDS = ["", " ", "%41", "A", "B", "Zoë", "a", "a b", "a'b", 'a"b', "a\\b", "a/b?c&d=e#f", "ab", "é", "日本", "😀"]
KEYS = {
    "smallint": [-5, 0, 7, 32767],
    "bigint": [*range(-10, 10), 2**62],
    "numeric": ["-1.50", "0.001", "12345678901234567890.5"],
    "text": WORDS,
    'text COLLATE "en-x-icu"': WORDS,
    "varchar(20)": WORDS,
    "char(9)": ["A", "a b", "b"],
    "uuid": [f"{number:032x}"[:8] + f"-0000-0000-0000-{number:012x}" for number in (0, 5, 77, 2**40)],
    "date": ["0044-03-15 BC", "1999-12-31", "infinity"],
    "timestamp": ["1999-12-31 23:59:59.999999", "2024-01-01 00:00:00", "infinity"],
    "timestamptz": ["2024-03-31 00:30:00+00", "2024-03-31 00:30:00.000001+00", "2024-10-27 01:30:00+00"],
}


@pytest.mark.parametrize("page_rows", [3, 16_384])
@pytest.mark.parametrize("kind", KEYS)
def test_every_row_comes_once_in_the_order_of_its_key(shop, address, monkeypatch, kind, page_rows):
    """Whole, from after any row, and in parts: nothing is lost and nothing comes twice, for every type of key."""
    monkeypatch.setattr(postgres_module, "PAGE_ROWS", page_rows)
    fill(shop, KEYS[kind], kind)
    source = open_postgres(address, table="products")
    rows = rows_of(source)
    assert len(rows) == len(KEYS[kind])
    assert {row["bytes"] for row in rows} == {data_of(key) for key in KEYS[kind]}
    order = shop("SELECT encode(picture, 'hex') FROM products ORDER BY id").splitlines()
    assert [row["bytes"].hex() for row in rows] == order
    for number in sorted({0, len(rows) // 2, len(rows) - 1}):
        resumed = source.resume_after(rows[number]["uri"])
        assert rows_of(resumed) == rows[number + 1 :]
        assert resumed.name == source.name
    for count in (2, 50):
        parts = source.parts(count)
        assert [row for part in parts for row in rows_of(part)] == rows
        assert len(parts) <= count
        assert len({part.name for part in parts}) == len(parts)


def test_parts_are_about_equally_large_and_take_what_comes_later(shop, address):
    """Keys with holes: the parts are by rows, not by keys. A row that is added later is in one of them."""
    fill(shop, [*range(100), *range(10**9, 10**9 + 100)])
    source = open_postgres(address, table="products")
    parts = source.parts(8)
    assert [len(rows_of(part)) for part in parts] == pytest.approx([25] * 8, abs=1)
    shop("INSERT INTO products (id) VALUES (-1), (5000), (2000000000)")
    assert len({key for part in parts for key in keys_of(part)}) == 203
    assert sum(part.estimate() for part in parts) == 203


def test_a_part_is_divided_and_resumed_like_a_whole(shop, address):
    """Parts of a part are its rows; a part that goes on after a row stays in its bounds."""
    fill(shop, range(40))
    part = open_postgres(address, table="products").parts(4)[1]
    rows = rows_of(part)
    assert [row for each in part.parts(3) for row in rows_of(each)] == rows
    resumed = part.resume_after(rows[4]["uri"])
    assert rows_of(resumed) == rows[5:]
    assert [row for each in resumed.parts(2) for row in rows_of(each)] == rows[5:]


def test_a_part_is_chosen_by_number_or_by_keys(shop, address):
    """`2/3` is the second of the parts; `FROM..TO` are keys, the last not included."""
    fill(shop, range(10))
    source = open_postgres(address, table="products")

    def keys(part):
        return keys_of(open_postgres(address, table="products", part=part))

    assert [keys(f"{number}/3") for number in (1, 2, 3)] == [keys_of(part) for part in source.parts(3)]
    assert [keys("..3"), keys("3..8"), keys("8..")] == [list("012"), list("34567"), list("89")]
    assert keys("20/40") == []
    for wrong in ("", "0/3", "4/3", "x", "1/0", "..", "-1/2"):
        with pytest.raises(InputError, match="no part"):
            keys(wrong)
    with pytest.raises(InputError, match="invalid input syntax for type bigint"):
        keys("a..b")


def test_resuming_after_a_row_that_was_deleted_goes_on_behind_it(shop, address):
    """The key is what counts, not the row."""
    fill(shop, range(6))
    source = open_postgres(address, table="products")
    uri = rows_of(source)[2]["uri"]
    shop("DELETE FROM products WHERE id = 2")
    assert keys_of(source.resume_after(uri)) == ["3", "4", "5"]


def test_resuming_after_a_foreign_uri_is_refused(shop, address):
    """A URI of another table, or of no key, is no place in this one."""
    fill(shop, [1])
    source = open_postgres(address, table="products")
    with pytest.raises(InputError, match="is of no row of postgresql://"):
        source.resume_after("file:///1.jpg")
    with pytest.raises(InputError, match="invalid input syntax for type bigint"):
        rows_of(source.resume_after(f"{source.name}?id=x"))


def test_two_columns_of_pictures_have_two_uris(shop, address):
    """Front and back of a product are different pictures."""
    shop("CREATE TABLE t (id int PRIMARY KEY, front bytea, back bytea)", "INSERT INTO t VALUES (1, '\\x01', '\\x02')")
    front, back = (open_postgres(address, table="t", column=name) for name in ("front", "back"))
    assert rows_of(front)[0]["uri"].endswith("/shop/t?column=front&id=1")
    assert rows_of(back)[0]["uri"].endswith("/shop/t?column=back&id=1")
    assert rows_of(back.resume_after(rows_of(back)[0]["uri"])) == []


@pytest.mark.parametrize("page_rows", [2, 3, 16_384])
@pytest.mark.parametrize("index", [False, True])
def test_a_key_that_is_there_twice_is_refused(shop, address, monkeypatch, index, page_rows):
    """Also where the two meet at the end of a page, and where the first of them was the last that was taken."""
    monkeypatch.setattr(postgres_module, "PAGE_ROWS", page_rows)
    shop("CREATE TABLE t (sku text, picture bytea)", "INSERT INTO t SELECT chr(96 + i) FROM generate_series(1, 6) i")
    shop("INSERT INTO t VALUES ('d')", *["CREATE INDEX ON t (sku)"] * index)
    source = open_postgres(address, table="t", id_column="sku")
    with pytest.raises(InputError, match=r"'sku' of the table 't' is 'd' in more than one row.*--id-column"):
        rows_of(source)
    with pytest.raises(InputError, match="more than one row"):
        rows_of(source.resume_after(f"{source.name}?id=d"))
    assert keys_of(source.resume_after(f"{source.name}?id=e")) == ["f"]


def test_a_key_that_is_null_is_refused_before_the_first_row(shop, address):
    """A row without a name cannot be found again, and is not left out either."""
    shop("CREATE TABLE t (sku text UNIQUE, picture bytea)", "INSERT INTO t VALUES ('a'), (NULL)")
    source = open_postgres(address, table="t", id_column="sku")
    for each in (source, source.parts(2)[0]):
        with pytest.raises(InputError, match="'sku' is null in some row of the table 't'"):
            next(each.batches())
    query = open_postgres(address, query="SELECT * FROM t WHERE sku IS NOT NULL", id_column="sku")
    assert keys_of(query) == ["a"]


# Which columns are meant

SHAPES = {
    "no key": ("(a int, picture bytea)", {}, r"has no primary key.*--id-column.*Columns: a \(integer\), picture"),
    "long key": ("(a int, b int, p bytea, PRIMARY KEY (b, a))", {}, r"primary key of several columns \(b, a\)"),
    "two pictures": ("(id int PRIMARY KEY, a bytea, b bytea)", {}, "Several columns may hold the pictures: a, b"),
    "no picture": ("(id int PRIMARY KEY, t text)", {}, "No column holds pictures.*--column"),
    "float key": ("(id float8 PRIMARY KEY, p bytea)", {}, "'id' is double precision; ids may be smallint"),
    "missing key": ("(id int PRIMARY KEY, p bytea)", {"id_column": "x"}, "has no column 'x' for the ids"),
    "missing picture": ("(id int PRIMARY KEY, p bytea)", {"column": "x"}, "has no column 'x' for the pictures"),
    "wrong picture": ("(id int PRIMARY KEY, p bytea)", {"column": "id"}, "'id' is integer; pictures are bytea"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_where_it_is_not_clear_what_is_meant_the_columns_are_listed(shop, address, shape):
    """Nothing is guessed where two are as good."""
    columns, options, message = SHAPES[shape]
    shop(f"CREATE TABLE t {columns}")
    with pytest.raises(InputError, match=message):
        open_postgres(address, table="t", **options)


QUERIES = {
    "": "empty",
    "SELECT nope FROM products": 'column "nope" does not exist',
    "SELECT 1 AS id, 2 AS id": "Two columns of the query are called 'id'",
    "SELECT picture FROM products": "does not say which column names a row",
    "DELETE FROM products RETURNING *": "syntax error",
    "SELECT 1) AS q; DROP TABLE products; --": "syntax error",
    "SELECT id, picture, pg_notify('a', 'b'), nextval('s') FROM products": "read-only transaction",
}


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_only_reads(shop, address, query):
    """What is no SELECT, or writes while it selects, is an error, and the table is as it was."""
    fill(shop, [1])
    shop("CREATE SEQUENCE s")
    with pytest.raises(InputError, match=QUERIES[query]):
        rows_of(open_postgres(address, query=query))
    assert shop("SELECT count(*) FROM products") == "1"


def test_table_or_query_must_be_named(shop, address):
    """The tables that are there are named, in either case."""
    fill(shop, [])
    with pytest.raises(InputError, match=r"either --table or --query.*there: products\."):
        open_postgres(address)
    with pytest.raises(InputError, match=r"no table 'product'\. .*there: products\."):
        open_postgres(address, table="product")


# Addresses


@pytest.fixture
def web_shop(shop):
    """A table of addresses of a server that answers well and badly."""
    with MisbehavingServer() as web:
        shop("CREATE TABLE links (id int PRIMARY KEY, link text, label text)")
        shop(f"INSERT INTO links SELECT i, '{web.url('/good')}?' || i, 'x' || i FROM generate_series(1, 12) i")
        yield web


def test_addresses_are_fetched(shop, address, web_shop):
    """Every row is a row: fetched, or with the reason; what names it is its key, and a password is not kept."""
    open_door = web_shop.url("/good").replace("//", "//me:hidden@")
    shop(f"INSERT INTO links VALUES (21, NULL), (22, 'ftp://x'), (23, '{open_door}'), (24, '{web_shop.url('/404')}')")
    source = open_postgres(address, table="links", allow_private=True)
    rows = {row["uri"].partition("id=")[2]: row for row in rows_of(source)}
    assert list(map(str, [*range(1, 13), *range(21, 25)])) == sorted(rows, key=int)
    assert all(rows[str(key)]["bytes"] == PICTURE for key in (*range(1, 13), 23))
    assert json.loads(rows["3"]["metadata"]) == {"id": 3, "link": web_shop.url("/good?3"), "labels": ["x3"]}
    assert rows["21"]["error"] == "the column 'link' is null in this row"
    assert rows["22"]["error"].startswith("not an address of http or https")
    assert rows["24"]["error"].startswith("cannot be fetched")
    assert "hidden" not in json.dumps(rows["23"]["metadata"])
    assert all(row["error"] for row in rows_of(open_postgres(address, table="links")))  # private, and not allowed


@pytest.mark.parametrize("together", [3, 100])
def test_an_interrupted_fetch_goes_on_without_a_hole(shop, address, web_shop, monkeypatch, together):
    """Whatever row was the last, it and those that come after the resumption are all that there are."""
    monkeypatch.setattr(postgres_module, "_FETCHED_TOGETHER", together)
    source = open_postgres(address, table="links", allow_private=True)
    rows = rows_of(source)
    everything = {row["uri"] for row in rows}
    assert len(rows) == len(everything) == 12
    for number, row in list(enumerate(rows))[::3]:
        taken = {each["uri"] for each in rows[: number + 1]}
        again = {each["uri"] for each in rows_of(source.resume_after(row["uri"]))}
        assert taken | again == everything
        assert len(taken & again) <= 2 * together


@pytest.mark.parametrize(
    ("column", "values"), [("image_url", ["x", "y"]), ("where_it_is", ["http://a/1.jpg", "HTTPS://b/2.jpg", None])]
)
def test_the_column_of_addresses_is_found(shop, address, column, values):
    """By its name, or by what is in it."""
    shop(f"CREATE TABLE t (id int PRIMARY KEY, note text, {column} text)")
    for number, value in enumerate(values):
        shop(f"INSERT INTO t VALUES ({number}, 'n', {'NULL' if value is None else literal(value)})")
    assert open_postgres(address, table="t").column == column


# Servers that fail, and passwords


def test_a_source_travels(shop, address):
    """Pickled and opened in another process, it gives the same rows."""
    fill(shop, range(9))
    part = open_postgres(address, table="products", allow_private=True).parts(3)[1]
    code = (
        "import pickle, sys; source = pickle.load(sys.stdin.buffer)\n"
        "print([row['uri'] for batch in source.batches() for row in batch.to_pylist()])"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(part), capture_output=True)
    assert done.stdout.decode().strip() == str([row["uri"] for row in rows_of(part)]), done.stderr.decode()


@pytest.mark.parametrize("ends", ["SELECT pg_terminate_backend({})", "SELECT pg_cancel_backend({})", "kill"])
def test_a_server_that_fails_in_mid_stream_is_an_error(shop, address, ends):
    """Not a short table: the error says up to which row it was read, and reading goes on from there."""
    shop(
        "CREATE TABLE t (id int PRIMARY KEY, picture bytea)",
        "ALTER TABLE t ALTER picture SET STORAGE EXTERNAL",
        "INSERT INTO t SELECT i, decode(repeat('00', 30000), 'hex') FROM generate_series(1, 2000) i",
    )
    source = open_postgres(address, table="t")
    batches = source.batches()
    found = [row for _ in range(3) for row in next(batches).to_pylist()]
    pid = shop("SELECT pid FROM pg_stat_activity WHERE application_name = 'imagelake' AND datname = 'shop'")
    if ends == "kill":
        os.kill(int(pid), signal.SIGTERM)
    else:
        shop(ends.format(pid))
    message = r"^postgresql://127.0.0.1:\d+: .*Read up to postgresql://.*\?id=\d+\.$"
    with pytest.raises(InputError, match=message):  # noqa: PT012  (what comes before the error is kept)
        for batch in batches:
            found += batch.to_pylist()
    assert 0 < len(found) < 2000
    found += rows_of(source.resume_after(found[-1]["uri"]))
    assert len({row["uri"] for row in found}) == len(found) == 2000


def test_an_error_in_a_row_is_an_error(shop, address):
    """A query that fails in its middle gives no short answer."""
    fill(shop, range(9))
    source = open_postgres(address, query="SELECT id, picture, 1 / (7 - id) AS x FROM products")
    with pytest.raises(InputError, match="division by zero"):
        rows_of(source)


def test_a_reader_who_leaves_closes_the_connection(shop, address):
    """Half a table read: the server is not kept busy."""
    fill(shop, range(100))
    batches = open_postgres(address, table="products").batches()
    next(batches)
    batches.close()
    closed = threading.Event()
    for _ in range(100):
        if shop("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'imagelake'") == "0":
            return
        closed.wait(0.05)
    pytest.fail("the connection is still there")


def with_password(server, password, database="shop"):
    return f"postgresql://reader:{quote(password, safe='')}@127.0.0.1:{server.port}/{database}"


def test_a_password_opens_the_door_and_is_shown_nowhere(server, shop):
    """Neither name, URI, repr nor any error holds it; a wrong one is an error that says so."""
    fill(shop, [1])
    shop("GRANT SELECT ON products TO reader")
    source = open_postgres(with_password(server, PASSWORD), table="products")
    shown = [source.name, repr(source), *(row["uri"] for row in rows_of(source))]
    for wrong in ({"table": "nope"}, {"table": "products", "column": "nope"}, {"query": "SELECT nope"}):
        with pytest.raises(InputError) as error:
            open_postgres(with_password(server, PASSWORD), **wrong)
        shown.append(str(error.value))
    with pytest.raises(InputError, match=r"no-db.* does not exist") as error:
        open_postgres(with_password(server, PASSWORD, "no-db"), table="products")
    shown.append(str(error.value))
    assert not [text for text in shown if PASSWORD in text or quote(PASSWORD, safe="") in text]
    with pytest.raises(InputError, match='password authentication failed for user "reader"') as error:
        open_postgres(with_password(server, "wrong-password"), table="products")
    assert "wrong-password" not in str(error.value)


def test_a_socket_is_an_address_too(server, shop):
    """The folder of the socket stands in the name, percent-encoded."""
    fill(shop, [1])
    folder = quote(str(server.folder), safe="")
    for address in (
        f"postgres://owner@{folder}:{server.port}/shop",
        f"postgresql://owner@/shop?host={folder}&port={server.port}",
    ):
        source = open_postgres(address, table="products")
        assert source.name == f"postgresql://{folder}:{server.port}/shop/products"
        assert keys_of(source) == ["1"]


def test_nobody_there_is_an_error(server):
    """A port that nobody listens on, and a name that nobody has."""
    for host in ("127.0.0.1:1", "nobody.invalid:5432"):
        with pytest.raises(InputError, match=f"postgresql://{host} cannot be connected to") as error:
            open_postgres(f"postgresql://me:hidden@{host}/shop", table="t")
        assert "hidden" not in str(error.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:pw@DB.example.com/shop", "postgresql://db.example.com:5432"),
        ("postgres://db:6000/shop?sslmode=require", "postgresql://db:6000"),
        ("postgresql://a,b:1/shop", "postgresql://a:5432,b:1"),
        ("postgresql://[::1]:7/shop", "postgresql://[::1]:7"),
        ("postgresql:///shop", "postgresql://"),
        ("postgresql://me:p@ss@db/shop", "postgresql://db:5432"),
    ],
)
def test_an_address_is_shown_without_its_user(address, shown):
    """What is left is where the server is."""
    assert parse_server(address).shown == shown


@pytest.mark.parametrize(
    "address",
    [
        "",
        "shop",
        "mysql://me:hidden@db/shop",
        "postgresql://me:hid/den@db/shop",
        "postgresql://me:hid?den@db/shop",
        "postgresql://me:hid#den@db/shop",
        "postgresql://db:hidden/shop",
        "postgresql://db/shop?hidden",
    ],
)
def test_an_address_that_cannot_be_read_is_not_repeated(address):
    """It may be a password that made it unreadable."""
    with pytest.raises(InputError) as error:
        parse_server(address)
    assert "hid" not in str(error.value)
    assert "postgresql://USER@HOST" in str(error.value)


# A lake of it


def test_a_table_becomes_a_lake(shop, address, lake):
    """Pictures with their labels; a row without one is a rejection under its URI; twice adds nothing."""
    shop("CREATE TABLE products (id int PRIMARY KEY, picture bytea, label text)")
    for key, data in enumerate(PICTURES):
        shop(f"INSERT INTO products VALUES ({key}, {cell(data)}, 'hat')")
    shop("INSERT INTO products VALUES (99, NULL, 'none')")
    source = open_postgres(address, table="products")
    report = lake.ingest(source)
    assert (report.found, report.added, report.rejected) == (9, 8, 1)
    (rejection,) = lake.sql("SELECT uri, reason FROM rejections").to_pylist()
    assert rejection == {"uri": f"{source.name}?id=99", "reason": "the column 'picture' is null in this row"}
    assert lake.ingest(source).added == 0
    kept = lake.sql(
        "SELECT metadata FROM images WHERE list_contains(uris, $uri)".replace("$uri", f"'{source.name}?id=3'")
    )
    assert json.loads(kept.to_pylist()[0]["metadata"]) == {"id": 3, "labels": ["hat"]}


def test_the_page_about_databases_runs(server, shop, tmp_path, monkeypatch):
    """Each block of Python on it works, on a database like the one that it speaks of."""
    monkeypatch.chdir(tmp_path)
    shop("CREATE TABLE products (id int PRIMARY KEY, photo bytea, label text, changed_at timestamptz DEFAULT now())")
    for key, data in enumerate(PICTURES):
        shop(f"INSERT INTO products VALUES ({key}, {cell(data)}, 'hat')")
    page = (ROOT / "docs" / "how-to" / "database.md").read_text()
    blocks = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
    assert len(blocks) > 1
    names = {"imagelake": imagelake}
    for block in blocks:
        exec(block.replace("postgresql://reader@db.example.com/shop", server.address("shop")), names)


def test_web_options_travel_too():
    """What says how addresses are fetched can be pickled."""
    assert pickle.loads(pickle.dumps(WebOptions(guard=Guard(allow_private=True)))).guard.allow_private
