"""Past runs, out of the receipts."""

import datetime as dt

import pyarrow as pa

import imagelake
from imagelake import schema
from imagelake.run.receipts import Counts, new_run, write_receipt


def test_a_new_lake_has_no_runs(lake):
    """The empty list."""
    assert lake.runs() == []


def test_a_run_is_listed_with_its_stages(lake, photos):
    """The newest first, with counts, rate and the seconds of each stage."""
    lake.ingest(photos)
    report = lake.extract()
    extracted, ingested = lake.runs()
    assert (ingested.work, ingested.found, ingested.added, ingested.known) == ("ingest", 12, 12, 0)
    assert ingested.pieces == 1
    assert (extracted.work, extracted.run, extracted.engine) == ("extract", report.run, "local")
    assert (extracted.subject, extracted.fingerprint) == (report.embedding_set, report.fingerprint)
    assert extracted.stages.keys() == {"read", "decode", "detect", "embed", "write"}
    assert extracted.stages["embed"] > 0
    assert extracted.stages["detect"] == 0
    assert extracted.started_at <= extracted.finished_at


def test_a_run_is_one_line_however_many_pieces_it_committed(lake):
    """Counts and seconds are added up."""
    run = new_run("spark")
    for counts in (Counts(added=2, rejected=1), Counts(added=3)):
        write_receipt(lake.tables, "extract", "a-set", "f" * 64, counts, 1.0, run, stages={"embed": 0.5})
    (listed,) = lake.runs()
    assert (listed.pieces, listed.added, listed.rejected, listed.engine) == (2, 5, 1, "spark")
    assert listed.stages == {"embed": 1.0}


def test_receipts_of_an_older_imagelake_are_listed(lake):
    """Together by what they did, since they name no run."""
    old = {"found": 3, "added": 2, "known": 1, "rejected": 0, "seconds": 1.0, "work": "ingest", "subject": "file:///a"}
    when = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    rows = [old | {"id": f"{n}", "finished_at": when} for n in range(2)]
    lake.tables.receipts.insert_new(pa.Table.from_pylist(rows, schema=schema.RECEIPTS))
    (run,) = lake.runs()
    assert (run.run, run.found, run.added, run.pieces, run.images_per_s) == (None, 6, 4, 2, None)
    assert isinstance(run, imagelake.RunInfo)
