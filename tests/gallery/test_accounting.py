"""What was done, what was rejected and why, what made the vectors, what it weighs: beside the tables themselves."""

import csv
import io
import math
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from imagelake.errors import InputError
from imagelake.gallery.accounting import (
    bytes_below,
    kind_of,
    models_of,
    rejections_csv,
    rejections_of,
    runs_of,
    storage_of,
)
from imagelake.gallery.gallery import Gallery
from imagelake.lake.tables import open_tables
from imagelake.schema import PREDICTIONS, RECEIPTS, REGIONS, REJECTIONS
from imagelake.web.health import quantile_ms

FORMULAS = ['=HYPERLINK("http://x")', "+1+1", "-2", "@SUM(A1)", "\tx", "\rx", "\n=1"]


@pytest.fixture
def gallery(tmp_path) -> Gallery:
    """A lake without images, for a few rows of bookkeeping."""
    return Gallery(open_tables(tmp_path / "l.lake", create=True), None)


def reject(gallery: Gallery, told: list) -> None:
    """Rejections of (URI, reason), each a second later than the one before."""
    rows = [
        {"id": f"{number:064x}", "uri": uri, "content_id": None, "stage": "describe", "reason": reason,
         "byte_size": 10 + number, "rejected_at": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)}
        for number, (uri, reason) in enumerate(told)
    ]  # fmt: skip
    gallery.tables.rejections.insert_new(pa.Table.from_pylist(rows, REJECTIONS))


def test_an_empty_lake_has_nothing_to_tell(gallery):
    """Where nothing was done all lists are empty, and the table for a spreadsheet has its head alone."""
    found = rejections_of(gallery)
    assert (found.kinds, found.total, found.rows) == ([], 0, [])
    assert len(list(csv.reader(io.StringIO("".join(rejections_csv(gallery)))))) == 1
    assert runs_of(gallery, 10) == (0, [])
    assert models_of(gallery) == {"images": 0, "embeddings": [], "codes": [], "regions": [], "predictions": []}


def test_reasons_that_differ_in_names_and_numbers_are_one_kind(gallery):
    """Kinds count reasons without what varies, and sum up to all rows; choosing one leaves the counts as they are."""
    told = [(f"file:///a/{n}.jpg", f"the picture has {n * 1000:,} pixels; at most '{n}' are taken") for n in range(7)]
    reject(gallery, [*told, ("file:///a/x.jpg", "the file is truncated")])
    found = rejections_of(gallery)
    assert [(each["count"], each["stage"]) for each in found.kinds] == [(7, "describe"), (1, "describe")]
    chosen = rejections_of(gallery, kind=found.kinds[0]["kind"], limit=3)
    assert chosen.kinds == found.kinds
    assert (chosen.total, len(chosen.rows)) == (7, 3)
    assert kind_of("no names or numbers") == "no names or numbers"


def test_rows_come_newest_first_in_pages(gallery):
    """All pages together are all rows, the newest first, none twice; a page behind the last is empty."""
    reject(gallery, [(f"file:///a/{n}.jpg", "broken") for n in range(11)])
    pages = [rejections_of(gallery, offset=offset, limit=4) for offset in (0, 4, 8, 12)]
    uris = [row["uri"] for page in pages for row in page.rows]
    assert uris == [f"file:///a/{n}.jpg" for n in range(10, -1, -1)]
    assert {page.total for page in pages} == {11}


def test_search_looks_at_files_and_reasons(gallery):
    """Each word must be in the URI or the reason, in any case, and means itself: no pattern."""
    reject(gallery, [("file:///a/Cat.jpg", "broken"), ("file:///a/dog.jpg", "a CAT sat on it"), ("file:///b.jpg", "?")])
    assert rejections_of(gallery, text="cat").total == 2
    assert rejections_of(gallery, text="CAT broken").total == 1
    assert rejections_of(gallery, text=".*").total == 0
    with pytest.raises(InputError, match="at most"):
        rejections_of(gallery, text="x" * 1_001)


def test_no_cell_of_the_export_is_a_formula(gallery):
    """The export has every row, and no cell that a spreadsheet would run; quotes and line ends survive."""
    reject(gallery, [(formula, formula) for formula in FORMULAS] + [('file:///a,"b".jpg', "two\nlines")])
    rows = list(csv.DictReader(io.StringIO("".join(rejections_csv(gallery)), newline="")))
    assert {row["uri"] for row in rows} == {f"'{formula}" for formula in FORMULAS} | {'file:///a,"b".jpg'}
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for row in rows for cell in row.values())
    few = "".join(rejections_csv(gallery, text="two", kind=kind_of("two\nlines")))
    assert len(list(csv.reader(io.StringIO(few, newline="")))) == 2


def test_runs_are_the_newest_of_all(gallery):
    """The count is of all runs; given are the newest."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        {"id": f"{n:064x}", "work": "ingest", "found": 3, "added": 2, "known": 0, "rejected": 1, "seconds": 1.0,
         "run": f"run {n}", "started_at": at + timedelta(hours=n), "finished_at": at + timedelta(hours=n, seconds=10),
         "stages": '{"decode": 1.5}'}
        for n in range(5)
    ]  # fmt: skip
    gallery.tables.receipts.append(pa.Table.from_pylist(rows, RECEIPTS))
    total, found = runs_of(gallery, 2)
    assert (total, [each.run for each in found]) == (5, ["run 4", "run 3"])
    assert found[0].stages == {"decode": 1.5}


def test_models_are_counted_with_their_images(gallery):
    """Regions and predictions are counted by model, images once each."""
    regions = [
        {"id": f"{n:064x}", "image_id": f"{n // 2:064x}", "box_xyxy": [0, 0, 1, 1], "label": "x", "model": "finder"}
        for n in range(5)
    ]
    predictions = [{"id": f"{n:064x}", "image_id": "a" * 64, "label": "x", "model": "m"} for n in range(2)]
    gallery.tables.regions.insert_new(pa.Table.from_pylist(regions, REGIONS))
    gallery.tables.predictions.insert_new(pa.Table.from_pylist(predictions, PREDICTIONS))
    told = models_of(gallery)
    assert told["regions"] == [{"model": "finder", "count": 5, "images": 3}]
    assert told["predictions"] == [{"model": "m", "count": 2, "images": 1}]


def test_storage_is_what_lies_on_the_disk(gallery, tmp_path):
    """Each table has its rows and versions, and together they weigh what lies below the lake's folder."""
    reject(gallery, [("file:///a.jpg", "broken")])
    told = {each["name"]: each for each in storage_of(gallery)}
    assert told["rejections"]["rows"] == 1
    assert told["rejections"]["versions"] >= 2
    assert sum(each["bytes"] for each in told.values()) == bytes_below(tmp_path / "l.lake")
    assert bytes_below(tmp_path / "nowhere") == 0


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ({}, 0.5, None),
        ({0.1: 0, math.inf: 0}, 0.5, None),
        ({0.1: 10, 0.2: 10, math.inf: 10}, 0.5, 50.0),
        ({0.1: 5, 0.2: 10, math.inf: 10}, 0.95, 190.0),
        ({0.1: 0, 0.2: 0, math.inf: 4}, 0.95, 200.0),  # beyond the last edge: at least that
    ],
)
def test_quantiles_lie_even_within_a_bucket(counts, share, expected):
    """A quantile of a histogram is where its share of a bucket lies; nothing counted has none."""
    assert quantile_ms(counts, share) == expected
