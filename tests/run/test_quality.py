"""Counting flags over a lake, drawing samples, saving them, and filling lakes of before flags."""

import dataclasses

import cv2
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import imagelake
from imagelake import schema
from imagelake.errors import InputError
from imagelake.lake.table import Table, create
from imagelake.pixels.quality import NAMES, NEW_COLUMNS, thresholds_from
from imagelake.run import quality as module
from imagelake.run.commits import CommitSize
from imagelake.run.quality import QualityOptions, quality
from pictures import encode

BLURRED = "array_has(flags, 'blurred')"


def textured(seed):
    """Sharp and well lit. Shape (240, 320, 3), uint8."""
    noise = np.random.default_rng(seed).integers(0, 256, (80, 107, 3)).astype(np.float32)
    soft = cv2.resize(np.random.default_rng(seed + 99).integers(0, 256, (6, 8, 3)).astype(np.float32), (320, 240))
    return np.clip(0.4 * cv2.resize(noise, (320, 240)) + 0.6 * soft, 0, 245).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Six good pictures; three of them also blurred, ever more, one also dark, one tiny."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(6):
        (folder / f"{seed}.png").write_bytes(encode(textured(seed), "PNG"))
    for seed in range(3):
        (folder / f"blurred-{seed}.png").write_bytes(encode(cv2.GaussianBlur(textured(seed), (0, 0), 2 + seed), "PNG"))
    (folder / "dark.png").write_bytes(encode((textured(3) * 0.25).astype(np.uint8), "PNG"))
    (folder / "tiny.png").write_bytes(encode(textured(4)[:40, :50], "PNG"))
    return folder


def old_lake(place, folder, rows=None):
    """A lake as versions before flags made it: none of the new columns."""
    new = imagelake.open(place.with_name("new.lake"), create=True)
    new.ingest(folder)
    old = imagelake.open(place, create=True)
    names = [name for name in schema.IMAGES.names if name not in {*NEW_COLUMNS, "flags"}]
    import shutil

    shutil.rmtree(old.tables.images.uri)
    images = create(
        old.tables.images.uri,
        pa.schema([schema.IMAGES.field(n) for n in names], schema.IMAGES.metadata),
        with_blob=True,
    )
    table = new.tables.images.read(names)
    data = new.tables.images.bytes_of(table.column("id").to_pylist())
    images.insert_new(
        table.append_column("bytes", pa.array([data[i] for i in table.column("id").to_pylist()], pa.large_binary()))
    )
    return old, new


def counts(report):
    return {flag.name: flag.count for flag in report.flags if flag.count}


def stored(lake):
    return {
        row["name"]: row["flags"]
        for row in lake.sql("select split_part(uris[1], '/', -1) as name, flags from images").to_pylist()
    }


def test_an_empty_lake(lake, tmp_path):
    """It has no flags, and a sheet of nothing is drawn for each all the same."""
    report = quality(lake.tables, QualityOptions(out=tmp_path / "out", save=True))
    assert (report.images, report.measured, report.flagged, counts(report)) == (0, 0, 0, {})
    assert {path.stem for path in (tmp_path / "out").iterdir()} == set(NAMES)


def test_ingest_writes_flags_and_both_languages_find_them(lake, folder):
    """SQL and the predicate of the table format choose by `array_has`; a good picture has an empty list."""
    lake.ingest(folder)
    names = stored(lake)
    assert all("blurred" in names[f"blurred-{seed}.png"] for seed in range(3))
    assert (names["dark.png"], names["tiny.png"], names["0.png"]) == (["dark", "low_contrast"], ["tiny"], [])
    assert lake.sql(f"select count(*) as n from images where {BLURRED}").to_pylist() == [{"n": 3}]
    assert lake.tables.images.count(BLURRED) == 3
    report = quality(lake.tables)
    assert counts(report) == {"blurred": 3, "dark": 1, "low_contrast": 1, "tiny": 1}
    assert (report.images, report.measured, report.differing, report.flagged) == (11, 0, 0, 5)
    assert report.flags[0].share == pytest.approx(3 / 11, abs=1e-6)


def test_another_threshold_counts_otherwise_and_changes_nothing_unless_saved(lake, folder):
    """`--save` alone changes what `array_has` finds, in that column only; saving the defaults brings them back."""
    lake.ingest(folder)
    everything = thresholds_from(["blurred=100", "tiny=0"])
    before, version = stored(lake), lake.tables.images.version()
    report = quality(lake.tables, QualityOptions(everything))
    assert (counts(report)["blurred"], counts(report).get("tiny"), report.differing) == (11, None, 8)
    assert (stored(lake), lake.tables.images.version()) == (before, version)
    rest = [name for name in schema.IMAGES.names if name != "flags"]
    others = lake.tables.images.read(rest).sort_by("id")
    saved = quality(lake.tables, QualityOptions(everything, save=True))
    assert (saved.saved, saved.differing) == (True, 0)
    assert lake.tables.images.count(BLURRED) == 11
    assert lake.sql("select count(*) as n from images where array_has(flags, 'tiny')").to_pylist() == [{"n": 0}]
    assert lake.tables.images.read(rest).sort_by("id").equals(others)
    version = lake.tables.images.version()
    quality(lake.tables, QualityOptions(everything, save=True))
    assert lake.tables.images.version() == version  # nothing differs, so nothing is written
    quality(lake.tables, QualityOptions(save=True))
    assert stored(lake) == before


def test_where_chooses(lake, folder):
    """Only those images are counted, and only theirs is saved."""
    lake.ingest(folder)
    where = "uris[1] like '%blurred%'"
    report = quality(lake.tables, QualityOptions(thresholds_from(["blurred=0"]), where, save=True))
    assert (report.images, counts(report)) == (3, {})
    assert stored(lake)["blurred-0.png"] == []
    assert stored(lake)["dark.png"] == ["dark", "low_contrast"]
    with pytest.raises(InputError, match="SQL"):
        quality(lake.tables, QualityOptions(where="no such column"))


def test_grids_show_the_flagged_and_the_nearest_others(lake, folder, tmp_path):
    """The most blurred first; then those just not flagged, nearest first; each file is a PNG."""
    lake.ingest(folder)
    report = quality(lake.tables, QualityOptions(out=tmp_path / "deep" / "out"))
    names = {
        row["id"]: row["uri"].split("/")[-1] for row in lake.sql("select id, uris[1] as uri from images").to_pylist()
    }
    blurred = report.flags[0]
    fineness = {names[r["id"]]: r["fineness"] for r in lake.sql("select id, fineness from images").to_pylist()}
    shown = [names[sample] for sample in blurred.flagged_samples]
    near = [names[sample] for sample in blurred.near_samples]
    assert sorted(shown) == ["blurred-0.png", "blurred-1.png", "blurred-2.png"]
    assert shown == sorted(shown, key=fineness.get)
    assert near == sorted(fineness.keys() - set(shown), key=fineness.get)[:6]
    for flag in report.flags:
        with Image.open(flag.grid) as grid:
            grid.load()
            assert grid.format == "PNG"
    with Image.open(blurred.grid) as one, Image.open(report.flags[2].grid) as other:
        assert one.height > other.height  # two rows and one
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--out"):
        quality(lake.tables, QualityOptions(out=tmp_path / "file"))


def test_many_flagged_are_sampled_from_the_most_extreme_to_the_threshold():
    """Evenly by rank, both ends among them, over any pages."""
    samples = module._Samples(module.FLAGS[0], 1.0)
    values = np.random.default_rng(0).permutation(2000).astype(np.float32) / 1000
    for start in range(0, 2000, 300):
        page = values[start : start + 300]
        samples.add(page, np.arange(start, start + len(page), dtype=np.uint64), page < 1)
    found = [value for _, value in samples.flagged()]
    assert len(found) == 12
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, pytest.approx(0.999))
    assert [round(value, 3) for _, value in samples.near()] == [1.0, 1.001, 1.002, 1.003, 1.004, 1.005]
    assert all(values[row] == np.float32(value) for row, value in [*samples.flagged(), *samples.near()])


def test_an_old_lake_is_filled_from_its_bytes(tmp_path, folder):
    """Every figure and flag as a new ingest has them; a second run has nothing to do."""
    old, new = old_lake(tmp_path / "old.lake", folder)
    assert "flags" not in old.tables.images.schema.names
    report = quality(old.tables)
    assert (report.images, report.measured, report.unreadable) == (11, 11, 0)
    assert counts(report) == counts(quality(new.tables))
    columns = ["id", *NEW_COLUMNS, "flags"]
    assert old.tables.images.read(columns).sort_by("id").equals(new.tables.images.read(columns).sort_by("id"))
    version = old.tables.images.version()
    assert quality(old.tables).measured == 0
    assert old.tables.images.version() == version


def test_a_run_that_was_stopped_goes_on(tmp_path, folder, monkeypatch):
    """What was committed stays measured; the next run does the rest only."""
    old, _ = old_lake(tmp_path / "old.lake", folder)
    monkeypatch.setattr(module, "_BATCH_ROWS", 2)
    patch, calls = Table.patch, []

    def stop_at_the_third(table, compute):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return patch(table, compute)

    with monkeypatch.context() as stopping:
        stopping.setattr(Table, "patch", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            quality(old.tables, commit=CommitSize(max_rows=2))
    assert old.tables.images.count("flags IS NOT NULL") == 4
    assert quality(old.tables, commit=CommitSize(max_rows=2)).measured == 7
    assert old.tables.images.count("flags IS NULL") == 0


def test_bytes_that_are_no_picture_any_more_are_counted_and_stay_without_flags(tmp_path, folder, lake):
    """They do not stop the others."""
    lake.ingest(folder)
    row = lake.tables.images.read([name for name in schema.IMAGES.names if name not in {*NEW_COLUMNS, "flags"}]).slice(
        0, 1
    )
    changed = row.set_column(0, row.schema.field("id"), pa.array(["f" * 64]))
    for name in (*NEW_COLUMNS, "flags"):
        changed = changed.append_column(name, pa.nulls(1, schema.IMAGES.field(name).type))
    lake.tables.images.insert_new(changed.append_column("bytes", pa.array([b"nothing"], pa.large_binary())))
    report = quality(lake.tables)
    assert (report.images, report.measured, report.unreadable) == (12, 0, 1)
    assert lake.tables.images.count("flags IS NULL") == 1


def test_of_measured_images_only_figures_are_read(lake, folder, monkeypatch):
    """Counting 100,000 rows keeps a few bytes each and never asks for a picture."""
    lake.ingest(folder)
    row = lake.tables.images.read(schema.IMAGES.names).slice(0, 1)
    many = pa.concat_tables([row] * 2000).set_column(
        0, row.schema.field("id"), pa.array([f"{n:064x}" for n in range(2000)])
    )
    lake.tables.images.insert_new(many.append_column("bytes", pa.array([b"x"] * 2000, pa.large_binary())))

    def never(*_):
        raise AssertionError("bytes were read")

    monkeypatch.setattr(Table, "read_bytes", never)
    monkeypatch.setattr(module, "_PAGE_ROWS", 100)
    seen = []
    passes = module.passes
    monkeypatch.setattr(
        module, "passes", lambda columns, limits: seen.append(len(columns["width"])) or passes(columns, limits)
    )
    report = quality(lake.tables)
    assert report.images == sum(seen) == 2011
    assert max(seen) <= 100


def test_the_report_is_plain(lake, folder):
    """It goes into JSON: numbers, texts, lists."""
    lake.ingest(folder)
    report = dataclasses.asdict(quality(lake.tables))
    assert [flag["name"] for flag in report["flags"]] == list(NAMES)
    assert report["thresholds"]["tiny"] == 64
    assert {type(flag["count"]) for flag in report["flags"]} == {int}
