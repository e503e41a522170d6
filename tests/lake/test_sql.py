"""SQL reads every table of a lake, and nothing else."""

import pytest

from imagelake.errors import InputError
from imagelake.lake.sql import matching_ids, query


def test_every_table_can_be_asked(lake, photos):
    """Empty or not, joined or not; the column `bytes` stays out."""
    for name in lake.tables.all():
        assert query(lake.tables, f'select count(*) as n from "{name}"').to_pylist() == [{"n": 0}]
    lake.ingest(photos)
    rows = query(lake.tables, "select format, count(*) as n from images group by 1 order by 2 desc, 1").to_pylist()
    assert rows == [{"format": "jpeg", "n": 10}, {"format": "png", "n": 1}, {"format": "webp", "n": 1}]
    assert "bytes" not in query(lake.tables, "select * from images").column_names
    assert query(lake.tables, "select sum(added)::int as n from receipts").to_pylist() == [{"n": 12}]


@pytest.mark.parametrize(
    "statement",
    [
        "select * from read_text('/etc/hostname')",
        "select * from '/etc/passwd'",
        "copy images to '/tmp/out.csv'",
        "create table t as select 1",
        "select 1; select 2",
        "install httpfs",
        "set enable_external_access = true",
        "attach '/tmp/x.db'",
        "selekt 1",
        "select nothing from images",
        "",
    ],
)
def test_more_than_a_query_is_refused(lake, statement):
    """No files, no network, no change: a clear error."""
    with pytest.raises(InputError):
        query(lake.tables, statement)


def test_a_predicate_chooses_images(lake, photos):
    """The ids for which it holds; a wrong one says so."""
    lake.ingest(photos)
    assert len(matching_ids(lake.tables, "format = 'jpeg'")) == 10
    assert len(matching_ids(lake.tables, "width > 10 or true -- all")) == 12
    assert len(matching_ids(lake.tables, "false")) == 0
    with pytest.raises(InputError, match="colour"):
        matching_ids(lake.tables, "colour = 1")


def test_columns_of_one_name_are_told_apart(lake):
    """As they come out of a join."""
    assert query(lake.tables, "select 1 as a, 2 as a, 3 as a_1, 4 as b").to_pylist() == [
        {"a": 1, "a_2": 2, "a_1": 3, "b": 4}
    ]
    with pytest.raises(InputError, match="UTF-8"):
        query(lake.tables, "select 'a\udcff'")


def test_what_is_more_than_a_predicate_is_not_run(lake, monkeypatch):
    """It could make an answer of any size: it is refused before."""
    monkeypatch.setattr("imagelake.lake.sql.query", lambda *_, **__: pytest.fail("it was run"))
    for predicate in ("1=1) UNION ALL SELECT repeat('x', 9) FROM range(9) WHERE (true", "true) OR (true"):
        with pytest.raises(InputError, match="more than a condition"):
            matching_ids(lake.tables, predicate)


@pytest.mark.parametrize(
    "predicate",
    [
        "true", "width > 10 AND format = 'jpeg' -- all", "uris[1] LIKE '%1%' OR format IN ('png', 'jpeg')",
        "list_contains(tags, 'a') OR 'a' = ANY(tags) OR list_has_any(tags, ['a', 'b']) OR tags = []",
        "exif->>'$.Make' = 'Canon' OR exif IS NULL", "year(taken_at) = 2024 OR taken_at IS NULL",
        "taken_at > now() - INTERVAL 3 DAY OR added_at::date > DATE '2024-01-01'",
        "id IN (SELECT image_id FROM regions WHERE score > 0.5) OR width >= (SELECT min(width) FROM images)",
        "sqrt(pow(latitude - 53.5, 2)) < 1 OR camera_make || ' ' || camera_model ILIKE '%r5' OR width % 2 < 2",
    ],
)  # fmt: skip
def test_a_predicate_of_others_asks_what_people_ask(lake, photos, predicate):
    """The bounds on what others may ask leave everything that is about the columns of images."""
    lake.ingest(photos)
    found = matching_ids(lake.tables, predicate, time_limit_s=10)
    assert found == matching_ids(lake.tables, predicate)


@pytest.mark.parametrize(
    "predicate",
    [
        "len(range(2000000000)) > 0", '"RANGE"(2000000000) IS NULL', "2000000000.range().len() > 0",
        "length(repeat('x', 2000000000)) > 0", "lpad(id, 2000000000, 'x') = ''", "format('{:>2000000000}', id) = ''",
        "NULL::INTEGER[100000][100000] IS NULL", "list_transform([1], lambda x: x) = []", "[x for x in tags] = []",
        "replace(replace(id, 'a', 'aaaaaaaaa'), 'a', 'aaaaaaaaa') = ''", "(SELECT [id, id] AS a, [a, a]) IS NULL",
        "EXISTS(SELECT a || a FROM (SELECT id || id AS a FROM images))", "EXISTS(FROM generate_series(1, 9))",
        "(WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT max(x) FROM t) > 0",
        "EXISTS(SELECT 1 FROM images ORDER BY len(range(2000000000)))", "[exif, exif] IS NULL", "getenv('HOME') = ''",
        "EXISTS(SELECT 1 FROM images LIMIT len(range(2000000000)))", "(SELECT 1 UNION SELECT 2) = 1", "'\ud800' = id",
        "(" * 3000 + "1" + ")" * 3000 + " = 1", "id" + " || id" * 20 + " = ''", "EXISTS(PIVOT images ON format)",
        "EXISTS(SELECT COLUMNS(lambda c: len(range(2000000000)) > 0) FROM images)", "current_setting('threads') = ''",
    ],
)  # fmt: skip
def test_a_predicate_of_others_cannot_fill_the_memory(lake, monkeypatch, predicate):
    """What may make more than it is given, or use an answer twice, is refused before it is run."""
    monkeypatch.setattr("imagelake.lake.sql.query", lambda *_, **__: pytest.fail("it was run"))
    with pytest.raises(InputError):
        matching_ids(lake.tables, predicate, time_limit_s=10)
