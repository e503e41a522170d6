"""Features of pictures as Parquet files: from a lake, or from a source that is in none."""

import fcntl
import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import imagelake
from imagelake.errors import InputError
from imagelake.run.commits import CommitSize
from imagelake.run.engines import run_extraction
from imagelake.run.extract_to import extract_to
from imagelake.run.pipeline_options import EmbedOptions
from imagelake.run.progress import Silent
from imagelake.sources.open import open_source
from imagelake.steps.pipeline import Crop, Detect, Pipeline
from pictures import encode, make_image
from privileges import let_all_reach, unprivileged
from tiny_models import brighter_half, mean_color


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    detect = Detect(model=brighter_half(folder), keep="all", min_score=0.1)
    return Pipeline(detect=detect, crop=Crop(), embed=mean_color(folder))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(6):
        (folder / f"{seed}.jpg").write_bytes(encode(make_image(seed)))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing follows")
    return folder


def rows_in(folder):
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def told_of(folder):
    """Each row but for its times."""
    return sorted(str({k: v for k, v in row.items() if not k.endswith("_s")}) for row in rows_in(folder))


def told(row):
    return (row["image_id"], row["region_id"], tuple(row["box_xyxy"]), row["label"], tuple(row["vector"]))


def test_a_folder_without_pictures_gives_no_rows(tmp_path, pipeline):
    """And no file."""
    empty = tmp_path / "empty"
    empty.mkdir()
    report = extract_to(open_source(str(empty)), pipeline, str(tmp_path / "out"))
    assert (report.found, rows_in(tmp_path / "out")) == (0, [])


def test_every_picture_is_in_the_files(tmp_path, photos, pipeline):
    """Its path, its boxes, its vectors; one that cannot be read with its reason."""
    report = extract_to(open_source(str(photos)), pipeline, str(tmp_path / "out"))
    assert (report.found, report.added, report.known, report.rejected) == (7, 6, 0, 1)
    assert (report.to, report.embedding_set) == (str(tmp_path / "out"), None)
    rows = rows_in(tmp_path / "out")
    assert {row["uri"].rsplit("/")[-1] for row in rows} == {path.name for path in photos.iterdir()}
    (broken,) = [row for row in rows if row["error"]]
    assert broken["uri"].endswith("broken.jpg")
    assert (broken["vector"], broken["box_xyxy"], broken["stage"]) == (None, None, "decode")
    assert all(len(row["vector"]) == 3 for row in rows if not row["error"])


def test_a_second_run_adds_nothing(tmp_path, photos, pipeline):
    """Only what is new, and what was rejected, which is tried again."""
    out = tmp_path / "out"
    extract_to(open_source(str(photos)), pipeline, str(out))
    before = told_of(out)
    again = extract_to(open_source(str(photos)), pipeline, str(out))
    assert (again.found, again.added, again.known, again.rejected) == (7, 0, 6, 1)
    assert told_of(out) == before
    (photos / "new.jpg").write_bytes(encode(make_image(77)))
    assert extract_to(open_source(str(photos)), pipeline, str(out)).added == 1


def test_a_lake_gives_the_rows_that_its_source_gives(tmp_path, lake, photos, pipeline):
    """But for the path, which a lake keeps several of."""
    lake.ingest(photos)
    extract_to(open_source(str(photos)), pipeline, str(tmp_path / "one"), commit=CommitSize(max_rows=2))
    report = extract_to(lake.tables, pipeline, str(tmp_path / "other"))
    assert (report.found, report.added) == (6, 6)
    one, other = (
        sorted(told(row) for row in rows_in(tmp_path / name) if not row["error"]) for name in ("one", "other")
    )
    assert one == other
    assert extract_to(lake.tables, pipeline, str(tmp_path / "other")).known == 6


def test_files_of_other_steps_are_not_added_to(tmp_path, photos, pipeline):
    """Nor to a folder of anything else."""
    out = tmp_path / "out"
    extract_to(open_source(str(photos)), pipeline, str(out))
    with pytest.raises(InputError, match="written by other steps"):
        extract_to(open_source(str(photos)), Pipeline(embed=pipeline.embed), str(out))
    with pytest.raises(InputError, match="holds other files"):
        extract_to(open_source(str(photos)), pipeline, str(photos))


def test_files_of_others_are_named(tmp_path, photos, pipeline):
    """A Parquet file that is broken, or that somebody else wrote; and nothing is left beside it."""
    for name, data in (("broken", b"PAR1 nothing follows"), ("empty", b"")):
        out = tmp_path / name
        out.mkdir()
        (out / "x.parquet").write_bytes(data)
        with pytest.raises(InputError, match="holds other files"):
            extract_to(open_source(str(photos)), pipeline, str(out))
        assert [path.name for path in out.iterdir()] == ["x.parquet"]
    pq.write_table(pa.table({"a": [1]}), out / "x.parquet")
    with pytest.raises(InputError, match="holds other files"):
        extract_to(open_source(str(photos)), pipeline, str(out))


def test_whatever_shapes_a_row_marks_its_file(tmp_path, photos, pipeline):
    """Vectors of whole pictures with a detector beside them are not those without."""
    plain, both = Pipeline(embed=pipeline.embed), replace(pipeline, crop=None)
    assert plain.fingerprint == both.fingerprint
    out = tmp_path / "out"
    extract_to(open_source(str(photos)), plain, str(out))
    with pytest.raises(InputError, match="written by other steps"):
        extract_to(open_source(str(photos)), both, str(out))


def test_two_runs_into_one_folder(tmp_path, photos, pipeline):
    """The second is told at once, and writes nothing; once the first is done, it may."""
    out = tmp_path / "out"
    extract_to(open_source(str(photos)), pipeline, str(out))
    before = told_of(out)
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="Another run is writing"):
            extract_to(open_source(str(photos)), pipeline, str(out))
    assert told_of(out) == before
    assert extract_to(open_source(str(photos)), pipeline, str(out)).known == 6


def test_what_a_killed_run_leaves(tmp_path, photos, pipeline):
    """Half a file is not read, and it is removed."""
    out = tmp_path / "out"
    extract_to(open_source(str(photos)), pipeline, str(out))
    (out / ".part-0.parquet").write_bytes(b"PAR1 half")
    assert extract_to(open_source(str(photos)), pipeline, str(out)).known == 6
    assert not (out / ".part-0.parquet").exists()


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_rejected_pictures_are_tried_again(tmp_path, photos, pipeline, rows):
    """One that is mended is done and its error gone; one that fails again is there once; each other row stays."""
    out, size = tmp_path / "out", CommitSize(max_rows=rows)
    (photos / "worse.jpg").write_bytes(b"\xff\xd8\xff nor here")
    extract_to(open_source(str(photos)), pipeline, str(out), commit=size)
    before = {row["uri"]: row for row in rows_in(out) if row["error"] is None}
    (photos / "broken.jpg").write_bytes(encode(make_image(9)))
    report = extract_to(open_source(str(photos)), pipeline, str(out), commit=size)
    assert (report.added, report.known, report.rejected) == (1, 6, 1)
    after = rows_in(out)
    assert [row["uri"].rsplit("/")[-1] for row in after if row["error"]] == ["worse.jpg"]
    assert {row["uri"]: row for row in after if row["uri"] in before} == before
    extract_to(open_source(str(photos)), pipeline, str(tmp_path / "fresh"))
    assert told_of(out) == told_of(tmp_path / "fresh")


def test_errors_of_pictures_that_do_not_come_again_stay(tmp_path, photos, pipeline):
    """A folder may be filled from several sources."""
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    (other / "new.jpg").write_bytes(encode(make_image(50)))
    extract_to(open_source(str(photos)), pipeline, str(out))
    extract_to(open_source(str(other)), pipeline, str(out))
    assert [row["uri"].rsplit("/")[-1] for row in rows_in(out) if row["error"]] == ["broken.jpg"]


def test_a_folder_is_filled_from_a_lake_or_from_sources(tmp_path, lake, photos, pipeline):
    """Not from both, which tell pictures apart by different names."""
    lake.ingest(photos)
    extract_to(open_source(str(photos)), pipeline, str(tmp_path / "one"))
    extract_to(lake.tables, pipeline, str(tmp_path / "other"))
    with pytest.raises(InputError, match="by their uri, and this run has them by their image_id"):
        extract_to(lake.tables, pipeline, str(tmp_path / "one"))
    with pytest.raises(InputError, match="by their image_id, and this run has them by their uri"):
        extract_to(open_source(str(photos)), pipeline, str(tmp_path / "other"))


@dataclass(frozen=True)
class Interrupted:
    """A source in which the user presses Ctrl-C after so many batches."""

    source: object
    after: int

    name = "interrupted"

    def estimate(self):
        return None

    def batches(self):
        for batch in self.source.batches():
            yield from itertools.islice((batch.slice(at, 1) for at in range(batch.num_rows)), self.after)
        raise KeyboardInterrupt


def test_an_interrupt_keeps_what_is_done(tmp_path, photos, pipeline):
    """The next run goes on from there."""
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        extract_to(Interrupted(open_source(str(photos)), 3), pipeline, str(out))
    assert len({row["uri"] for row in rows_in(out)}) == 3
    extract_to(open_source(str(photos)), pipeline, str(out))
    extract_to(open_source(str(photos)), pipeline, str(tmp_path / "fresh"))
    assert told_of(out) == told_of(tmp_path / "fresh")


def test_the_time_of_reading_is_told(tmp_path, photos, pipeline):
    """Of a source, too."""
    report = extract_to(open_source(str(photos)), pipeline, str(tmp_path / "out"))
    assert sum(row["read_s"] for row in rows_in(tmp_path / "out")) > 0
    assert set(report.stages) == {"read", "decode", "detect", "embed", "write"}


def test_the_lake_lists_the_run(tmp_path, lake, photos, pipeline):
    """With the folder as its subject; a run that did nothing leaves no line."""
    lake.ingest(photos)
    out = str(tmp_path / "out")
    report = extract_to(lake.tables, pipeline, out, commit=CommitSize(max_rows=2))
    (run,) = [each for each in lake.runs() if each.work == "extract"]
    assert (run.run, run.subject, run.added, run.rejected) == (report.run, out, 6, 0)
    assert run.fingerprint == pipeline.result_fingerprint
    extract_to(lake.tables, pipeline, out)
    assert len([each for each in lake.runs() if each.work == "extract"]) == 1


def test_a_lake_that_cannot_be_written_gives_its_rows(tmp_path, lake, photos, pipeline):
    """And it is said that it will not list the run."""
    lake.ingest(photos)
    out, said = tmp_path / "out", []
    out.mkdir()
    out.chmod(0o777)
    for folder in (tmp_path, *pipeline.model_folders()):
        let_all_reach(folder)
    telling = Silent()
    telling.say = said.append
    folders = [path for path in Path(lake.tables.root).rglob("*") if path.is_dir()]
    for path in folders:
        path.chmod(0o555)
    try:
        with unprivileged():
            report = extract_to(lake.tables, pipeline, str(out), progress=telling)
    finally:
        for path in folders:
            path.chmod(0o755)
    assert report.added == 6
    assert any("will not be listed" in message for message in said)
    assert [each for each in lake.runs() if each.work == "extract"] == []


def test_a_source_needs_a_place_for_its_results(tmp_path, photos, lake):
    """And files come from one of lake and source; the message says what to do."""
    embed = EmbedOptions(input_size=64)
    with pytest.raises(InputError, match="Where do the results go"):
        run_extraction(None, imagelake.ExtractOptions(embed=embed, source=str(photos)))
    with pytest.raises(InputError, match="one of --lake and --source"):
        lake.extract(imagelake.ExtractOptions(embed=embed, source=str(photos), to=str(tmp_path / "out")))


def test_a_source_with_a_lake_is_ingested_first(photos, lake):
    """One command from a folder to vectors."""
    report = lake.extract(imagelake.ExtractOptions(embed=EmbedOptions(input_size=64), source=str(photos)))
    assert (report.ingested.found, report.ingested.rejected) == (7, 1)
    assert (report.found, report.added) == (6, 6)


def test_the_public_function_embeds_by_default(tmp_path, photos):
    """With the default model."""
    report = imagelake.extract_source(str(photos), str(tmp_path / "out"))
    assert (report.added, report.model) == (6, "efficientnet-lite0")
