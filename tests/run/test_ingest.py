"""From a folder to the images table: every picture accounted for."""

import hashlib
import io
import shutil
import zlib
from datetime import datetime

import numpy as np
import pytest
from PIL import Image

from imagelake.files import path_to_uri
from pictures import encode, make_image


def counts(report):
    assert report.found == report.added + report.known + report.rejected
    return (report.found, report.added, report.known, report.rejected)


def test_an_empty_folder(lake, tmp_path):
    """Adds nothing and says so."""
    (tmp_path / "empty").mkdir()
    assert counts(lake.ingest(tmp_path / "empty")) == (0, 0, 0, 0)


def test_ingesting_twice_adds_nothing(lake, photos):
    """The second time everything is known, and the tables are the same."""
    assert counts(lake.ingest(photos)) == (12, 12, 0, 0)
    before = lake.sql("select * from images order by id")
    assert counts(lake.ingest(photos)) == (12, 0, 12, 0)
    assert lake.sql("select * from images order by id").equals(before)


def test_one_row_per_content_with_every_uri(lake, photos):
    """Copies are one image; a copy met later adds its URI, once."""
    shutil.copy(photos / "1.jpg", photos / "copy.jpg")
    assert counts(lake.ingest(photos)) == (13, 12, 1, 0)
    later = photos.parent / "later"
    later.mkdir()
    shutil.copy(photos / "1.jpg", later / "again.jpg")
    for _ in range(2):
        assert counts(lake.ingest(later)) == (1, 0, 1, 0)
    uris = lake.sql("select uris from images where len(uris) > 1").to_pylist()
    expected = [path_to_uri(path) for path in (photos / "1.jpg", photos / "copy.jpg", later / "again.jpg")]
    assert [sorted(row["uris"]) for row in uris] == [sorted(expected)]


def test_a_row_tells_what_the_picture_is(lake, tmp_path):
    """Id, sizes, format, metadata, figures, thumbnail, bytes."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F], exif[0x0110] = "Maker", "Model"
    exif.get_ifd(0x8769).update({0x9003: "2024:05:06 07:08:09", 0x9011: "+02:00", 0xA434: "Lens", 0x829A: 0.01})
    exif.get_ifd(0x8825).update({1: "S", 2: (33.0, 30.0, 0.0), 3: "W", 4: (70.0, 15.0, 0.0)})
    data = encode(make_image(1, 400, 300), exif=exif)
    (tmp_path / "a.jpg").write_bytes(data)
    lake.ingest(tmp_path / "a.jpg")
    (row,) = lake.sql("select * from images").to_pylist()
    expected = {
        "id": hashlib.sha256(data).hexdigest(),
        "uris": [path_to_uri(tmp_path / "a.jpg")],
        "format": "jpeg",
        "width": 300,
        "height": 400,
        "byte_size": len(data),
        "orientation": 6,
        "taken_at": datetime(2024, 5, 6, 7, 8, 9),  # noqa: DTZ001  (the clock on the wall)
        "utc_offset_minutes": 120,
        "camera_make": "Maker",
        "camera_model": "Model",
        "lens": "Lens",
        "exposure_s": 0.01,
        "latitude": -33.5,
        "longitude": -70.25,
    }
    assert {name: row[name] for name in expected} == expected
    assert row["taken_at_utc"].isoformat() == "2024-05-06T05:08:09+00:00"
    upright = np.asarray(Image.open(io.BytesIO(data)).convert("RGB").transpose(Image.Transpose.ROTATE_270))
    assert row["mean_r"] == pytest.approx(upright[..., 0].mean(), abs=2)
    assert Image.open(io.BytesIO(row["thumbnail"])).size == (192, 256)
    assert lake.tables.images.bytes_of([row["id"]]) == {row["id"]: data}


def test_bad_files_are_rejections_with_reasons_and_the_rest_goes_in(lake, photos):
    """Truncated, empty, mislabeled, without pixels, absurdly large."""
    good = encode(make_image(50, 640, 480))
    bomb = bytearray(encode(make_image(51), "PNG"))
    bomb[16:24] = (100_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    flat = bytearray(encode(make_image(52), "BMP"))
    flat[18:22] = (0).to_bytes(4, "little")
    bad = {
        "truncated.jpg": good[: len(good) // 2],
        "empty.jpg": b"",
        "text.jpg": b"this is not a picture, it is a letter",
        "bomb.png": bytes(bomb),
        "no-pixels.bmp": bytes(flat),
    }
    for name, data in bad.items():
        (photos / name).write_bytes(data)
    assert counts(lake.ingest(photos)) == (17, 12, 0, 5)
    reasons = {row["uri"].rsplit("/")[-1]: row["reason"] for row in lake.rejections().to_pylist()}
    assert reasons.keys() == bad.keys()
    assert "truncated" in reasons["truncated.jpg"]
    assert "empty" in reasons["empty.jpg"]
    assert "not a picture" in reasons["text.jpg"]
    assert "too large" in reasons["bomb.png"]
    assert "pixels" in reasons["no-pixels.bmp"]
    assert counts(lake.ingest(photos)) == (17, 0, 12, 5)
    assert lake.rejections().num_rows == 5


def test_a_file_that_was_mended_is_no_rejection_any_more(lake, tmp_path):
    """Its old rejection goes."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"")
    lake.ingest(folder)
    assert lake.rejections().num_rows == 1
    (folder / "a.jpg").write_bytes(encode(make_image(1)))
    assert counts(lake.ingest(folder)) == (1, 1, 0, 0)
    assert lake.rejections().num_rows == 0


def test_an_image_that_was_deleted_during_the_run_comes_back(lake, photos):
    """What was known when the run began is described after all where it has gone."""
    lake.ingest(photos)

    class Deleting:
        name = "deleting"

        def estimate(self):
            return None

        def batches(self):
            lake.tables.images.delete("format = 'png'")
            from imagelake.sources.folder import Folder

            yield from Folder(str(photos)).batches()

    assert counts(lake.ingest(Deleting())) == (12, 1, 11, 0)
    assert lake.sql("select count(*) as n from images where sharpness is not null").to_pylist() == [{"n": 12}]
