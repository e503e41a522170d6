"""Which files of a table a commit made, whatever becomes of the clock."""

import os
import time

import pyarrow as pa
import pytest

import imagelake
from imagelake.lake import sync
from imagelake.lake.sync import Since, sync_table
from imagelake.schema import PREDICTIONS


@pytest.mark.parametrize("set_by_s", [0, -3600, 3600])
def test_what_a_commit_made_is_waited_for(tmp_path, monkeypatch, set_by_s):
    """Every file since then, also where the clock was set meanwhile; of what was there before nothing."""
    made = imagelake.open(tmp_path, create=True).tables.predictions
    made.insert_new(pa.Table.from_pylist([{"id": "a"}], schema=PREDICTIONS))
    for path in [tmp_path, *tmp_path.rglob("*")]:
        os.utime(path, (time.time() - 86_400,) * 2)
    before = set(tmp_path.rglob("*"))
    real = time.time
    since = Since()
    made.insert_new(pa.Table.from_pylist([{"id": "b"}], schema=PREDICTIONS))
    fresh = [path for path in tmp_path.rglob("*") if path not in before]
    monkeypatch.setattr(time, "time", lambda: real() + set_by_s)
    if set_by_s < 0:  # the files were made after the clock was set
        for path in fresh:
            os.utime(path, (time.time(),) * 2)
    synced = []
    monkeypatch.setattr(sync, "_sync", lambda path: synced.append(os.fspath(path)))
    sync_table(made, since)
    assert {str(path) for path in fresh} <= set(synced)
    assert not {str(path) for path in before if path.suffix == ".manifest"} & set(synced)
