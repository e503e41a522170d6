"""Features of pictures as Parquet files: from a lake, or from a source that is in none."""

import pyarrow.parquet as pq
import pytest

import imagelake
from imagelake.errors import InputError
from imagelake.run.commits import CommitSize
from imagelake.run.engines import run_extraction
from imagelake.run.extract_to import extract_to
from imagelake.run.pipeline_options import EmbedOptions
from imagelake.sources.open import open_source
from imagelake.steps.pipeline import Crop, Detect, Pipeline
from pictures import encode, make_image
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
    """Only what is new."""
    out = tmp_path / "out"
    extract_to(open_source(str(photos)), pipeline, str(out))
    before = {path.name for path in out.iterdir()}
    again = extract_to(open_source(str(photos)), pipeline, str(out))
    assert (again.found, again.added, again.known) == (7, 0, 7)
    assert {path.name for path in out.iterdir()} == before
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
