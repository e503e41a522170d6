"""Sources that can start in the middle."""

import pyarrow as pa
import pytest

from imagelake import schema
from imagelake.errors import InputError
from imagelake.run.commits import CommitSize
from imagelake.run.ingest import ingest
from pictures import encode, make_image


class Numbered:
    """Pictures with numbers, in their order; breaks down at one of them."""

    name = "numbered:"

    def __init__(self, count, breaks_at=None, after=-1):
        self.count, self.breaks_at, self.after = count, breaks_at, after
        self.read = []

    def estimate(self):
        return self.count

    def resume_after(self, uri):
        return Numbered(self.count, self.breaks_at, int(uri.removeprefix("numbered:")))

    def batches(self):
        for number in range(self.after + 1, self.count):
            if number == self.breaks_at:
                raise OSError("the connection is gone")
            data = pa.array([encode(make_image(number, 16, 12))], pa.large_binary())
            nothing = pa.nulls(1, pa.string())
            yield pa.record_batch([pa.array([f"numbered:{number}"]), data, nothing, nothing], schema=schema.SOURCE)


def test_an_interrupted_run_goes_on(lake):
    """After the last commit; one that came to its end begins again, or takes only what is new."""
    size = CommitSize(max_rows=2)
    with pytest.raises(OSError, match="gone"):
        ingest(lake.tables, Numbered(9, breaks_at=5), commit=size)
    report = ingest(lake.tables, Numbered(9), commit=size)
    assert (report.found, report.added, report.went_on_after) == (5, 5, "numbered:3")
    report = ingest(lake.tables, Numbered(9), commit=size)
    assert (report.found, report.known, report.went_on_after) == (9, 9, None)
    report = ingest(lake.tables, Numbered(11), commit=size, new_only=True)
    assert (report.found, report.added, report.went_on_after) == (2, 2, "numbered:8")
    report = ingest(lake.tables, Numbered(11), commit=size, new_only=True)
    assert (report.found, report.went_on_after) == (0, "numbered:10")
    assert lake.info().images == 11


def test_only_such_sources_have_new_rows(lake, photos):
    """A folder says that it has not."""
    with pytest.raises(InputError, match="--new-only"):
        lake.ingest(photos, new_only=True)
