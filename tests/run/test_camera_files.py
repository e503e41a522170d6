"""Real camera files go into a lake with the right times, orientations and places, broken ones included."""

import imagelake
from imagelake.pixels.decode import decode_rgb


def test_a_folder_of_camera_files(shared, lake):
    """Every file is accounted for, and what the cameras wrote is what the lake says."""
    folder = shared("exif")
    report = lake.ingest(folder)
    assert report.found == report.added + report.known + report.rejected
    assert report.added > 80
    assert all(row["reason"] for row in lake.rejections().to_pylist())
    expected = {
        "Canon_40D.jpg": ("2008-05-30T15:56:01", None, "Canon", "Canon EOS 40D", None),
        "DSCN0010.jpg": ("2008-10-22T16:28:39", None, "NIKON", "COOLPIX P6000", (43.4674, 11.8851)),
        "DSCN0042.jpg": ("2008-10-22T17:00:07", None, "NIKON", "COOLPIX P6000", (43.4645, 11.8815)),
    }
    rows = lake.sql("select * from images").to_pylist()
    by_name = {uri.rsplit("/", 1)[-1]: row for row in rows for uri in row["uris"]}
    for name, (taken_at, offset, make, model, place) in expected.items():
        row = by_name[name]
        assert row["taken_at"].isoformat() == taken_at
        assert row["utc_offset_minutes"] == offset
        assert (row["camera_make"], row["camera_model"]) == (make, model)
        if place is not None:
            assert abs(row["latitude"] - place[0]) < 1e-3
            assert abs(row["longitude"] - place[1]) < 1e-3
    assert all(row["taken_at_source"] is not None for row in rows if row["taken_at"] or row["taken_at_utc"])
    assert all(
        (row["utc_offset_minutes"] is None) == (row["taken_at_utc"] is None) or row["taken_at_source"] == "gps"
        for row in rows
    )


def test_all_eight_orientations_are_upright(shared, lake):
    """Portrait and landscape, 1 to 8: width and height are those of the upright picture, and so are the pixels."""
    lake.ingest(shared("exif/jpg/orientation"))
    rows = lake.sql("select id, uris[1] as uri, orientation, width, height, mean_r from images order by 2").to_pylist()
    for kind in ("landscape", "portrait"):
        some = {row["orientation"]: row for row in rows if row["uri"].rsplit("/", 1)[-1].startswith(kind)}
        assert set(some) == set(range(1, 9))
        stored = lake.tables.images.bytes_of([row["id"] for row in some.values()])
        for row in some.values():
            assert (row["width"] > row["height"]) == (kind == "landscape")
            assert decode_rgb(stored[row["id"]]).shape[:2] == (row["height"], row["width"])


def test_heic_goes_in(shared, lake):
    """As pixels and vectors, like any other format."""
    lake.ingest(shared("exif/heic"))
    assert lake.info().formats.get("heic", 0) >= 3
    report = lake.extract(imagelake.model("efficientnet-lite0", precision="fp32", input_size=64))
    assert report.rejected == 0
