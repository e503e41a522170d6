"""Words become sources, and other packages' sources come through the same door as ours."""

import functools
import http.server
import io
import json
import sys
import threading
import zipfile
from importlib import metadata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import imagelake
from imagelake.errors import InputError
from imagelake.run.annotations import regions_of, upright
from imagelake.sources.annotated import Coco, ImageFolder
from imagelake.sources.archive import Archive
from imagelake.sources.columns import Columns, LakeSource
from imagelake.sources.folder import Folder
from imagelake.sources.glob import Glob
from imagelake.sources.many import Many
from imagelake.sources.open import GROUP, open_source, open_sources
from pictures import encode, make_image


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Says nothing of what it serves."""

    def log_message(self, *_):
        pass


def test_words_mean_what_they_look_like(tmp_path, photos, lake):
    """Folders, files by their names, lakes, patterns, prefixes; and several of them."""
    with zipfile.ZipFile(tmp_path / "some.ZIP", "w") as archive:
        archive.write(photos / "0.jpg", "0.jpg")
    pq.write_table(pa.table({"image": [encode(make_image(1))]}), tmp_path / "some.parquet")
    (tmp_path / "coco.json").write_text("{}")
    (photos / "metadata.jsonl").write_text("")
    cases = {
        str(photos): Folder, str(photos / "0.jpg"): Folder, str(tmp_path / "some.ZIP"): Archive,
        str(tmp_path / "some.parquet"): Columns, str(lake.root): LakeSource, f"{photos}/*.jpg": Glob,
        f"imagefolder:{photos}": ImageFolder, f"coco:{tmp_path}/coco.json,{photos}": Coco,
    }  # fmt: skip
    for what, kind in cases.items():
        assert isinstance(open_source(what), kind), what
    assert isinstance(open_sources(list(cases)), Many)


def test_all_kinds_end_in_one_lake(tmp_path, photos, lake):
    """Twelve pictures that come four ways are twelve images with all their URIs."""
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        for path in photos.rglob("*.*"):
            archive.write(path, path.relative_to(photos))
    data = [path.read_bytes() for path in sorted(photos.rglob("*.*"))]
    pq.write_table(pa.table({"image": data, "mood": ["calm"] * 12}), tmp_path / "some.parquet")
    whats = [str(tmp_path / "some.parquet"), str(photos), str(tmp_path / "some.zip"), f"{photos}/*.jpg"]
    report = lake.ingest(open_sources(whats))
    assert (report.found, report.added, report.rejected) == (46, 12, 0)
    rows = lake.sql("select len(uris) as n, metadata from images").to_pylist()
    assert {row["n"] for row in rows} == {3}
    assert [json.loads(row["metadata"]) for row in rows] == [{"mood": "calm"}] * 12
    other = imagelake.open(tmp_path / "other.lake", create=True)
    assert other.ingest(lake.root).added == 12


def test_addresses_are_fetched(photos, lake, tmp_path):
    """One, or a list with other columns; and those of private networks only where that is allowed."""
    handler = functools.partial(Quiet, directory=str(photos))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_port}"
        refused = lake.ingest(open_source(f"{root}/0.jpg"))
        assert (refused.found, refused.rejected) == (1, 1)
        assert "private ones are allowed" in lake.rejections().column("reason")[0].as_py()
        (tmp_path / "list.csv").write_text(f"url,mood\n{root}/0.jpg,calm\n{root}/1.jpg,wild\n{root}/none.jpg,\n")
        report = lake.ingest(open_source(str(tmp_path / "list.csv"), {"allow_private": True}))
        assert (report.found, report.added, report.rejected) == (3, 2, 1)
        assert lake.ingest(open_source(f"{root}/1.jpg", {"allow_private": True})).known == 1
        server.shutdown()
    moods = lake.sql("select metadata->>'mood' as mood from images order by 1").column("mood").to_pylist()
    assert moods == ["calm", "wild"]


def test_regions_lie_in_the_upright_picture(tmp_path, lake):
    """COCO's boxes are of the picture as stored; those of the lake are of the picture as seen."""
    (tmp_path / "photos").mkdir()
    turned = Image.fromarray(np.zeros((40, 60, 3), np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6
    out = io.BytesIO()
    turned.save(out, "JPEG", exif=exif)
    (tmp_path / "photos" / "turned.jpg").write_bytes(out.getvalue())
    coco = {
        "images": [{"id": 7, "file_name": "turned.jpg", "width": 60, "height": 40}],
        "categories": [{"id": 3, "name": "boat"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [6, 4, 15, 8], "area": 120, "iscrowd": 0}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    for _ in range(2):
        lake.ingest(f"coco:{tmp_path}/coco.json,{tmp_path}/photos")
    rows = lake.sql("select box_xyxy, label, model from regions").to_pylist()
    assert len(rows) == 1
    assert (rows[0]["label"], rows[0]["model"]) == ("boat", "annotation")
    assert rows[0]["box_xyxy"] == pytest.approx([1 - 12 / 40, 6 / 60, 1 - 4 / 40, 21 / 60], abs=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_a_box_keeps_its_area(orientation):
    """And its corners in order."""
    x0, y0, x1, y1 = upright([0.1, 0.2, 0.4, 0.9], orientation)
    assert 0 <= x0 < x1 <= 1
    assert 0 <= y0 < y1 <= 1
    assert (x1 - x0) * (y1 - y0) == pytest.approx(0.3 * 0.7)


@pytest.mark.parametrize("given", ["no json", "[]", '{"regions": 3}', '{"regions": [{"box_xyxy": [1, 2]}, 7]}'])
def test_what_is_no_region_is_left_out(given):
    """The metadata itself stays with the image."""
    assert regions_of(given) == []


def test_a_source_of_another_package_is_found(tmp_path, monkeypatch, photos):
    """By its entry point alone."""
    (tmp_path / "elsewhere.py").write_text(
        "from imagelake.sources.folder import Folder\n\n\ndef open_it(what):\n    return Folder(what + '/below')\n"
    )
    info = tmp_path / "elsewhere-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nelsewhere = elsewhere:open_it\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert open_source(f"elsewhere:{photos}").estimate() == 1
    other = tmp_path / "again-1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: again\nVersion: 1\n")
    (other / "entry_points.txt").write_text(f"[{GROUP}]\nelsewhere = os:getcwd\n")
    with pytest.raises(InputError, match="Two sources are called 'elsewhere'"):
        open_source(f"elsewhere:{photos}")
    assert sys.path[0] == str(tmp_path)


def test_what_means_nothing_is_said(tmp_path, photos):
    """With what would."""
    with pytest.raises(InputError, match=r"'nowhere' does not exist.*coco:.*stl10:"):
        open_source("nowhere")
    with pytest.raises(InputError, match="takes no --column"):
        open_source(str(photos), {"column": "x"})
    with pytest.raises(InputError, match="Nothing matches"):
        open_source(f"{photos}/*.bmp")
    with pytest.raises(InputError, match="names one place"):
        open_source("coco:only.json")
    with pytest.raises(InputError, match="Nothing to read"):
        open_sources([])
    assert open_source(str(photos), {"column": None}).name == photos.as_uri()


def test_our_own_sources_are_entry_points():
    """Every one of them can be imported."""
    ours = [each for each in metadata.entry_points(group=GROUP) if each.value.startswith("imagelake.")]
    assert len(ours) >= 16
    assert all(callable(each.load()) for each in ours)


def test_no_error_shows_a_password(tmp_path):
    """Neither of an address that means nothing, nor of an option that it does not take."""
    for what, options in (("nosuch://me:s3cr:e@t@host/x", {}), ("postgresql://me:s3cret@host/x", {"anonymous": True})):
        with pytest.raises(InputError) as caught:
            open_source(what, options)
        assert "s3c" not in str(caught.value)
        assert "me:***@host" in str(caught.value)
