"""Moving out: what is exported is all there, whoever reads it, and however often it was stopped."""

import hashlib
import json
import tarfile

import deltalake
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest

from imagelake import schema
from imagelake.errors import InputError
from imagelake.run import export as export_module
from imagelake.run.export_names import file_names
from pictures import encode, make_image

FORMATS = ["folder", "parquet", "webdataset", "coco", "delta", "csv"]


@pytest.fixture
def filled(lake, photos):
    lake.ingest(photos)
    return lake


@pytest.fixture
def in_small_pieces(monkeypatch):
    monkeypatch.setattr(export_module, "_PIECE_ROWS", 3)


def ids(lake):
    return sorted(lake.sql("select id from images").column("id").to_pylist())


def read_back(folder, name):
    """The ids of the pictures in an export, from their bytes where it has them."""
    if name == "csv":
        return sorted(i for path in folder.glob("*.csv") for i in pcsv.read_csv(path).column("id").to_pylist())
    if name == "parquet":
        files = [pq.read_table(path) for path in folder.glob("part-*.parquet")]
        data = [each for table in files for each in table.column("bytes").to_pylist()]
    elif name == "delta":
        data = deltalake.DeltaTable(folder / "images").to_pyarrow_table().column("bytes").to_pylist()
    elif name == "webdataset":
        data = []
        for path in folder.glob("*.tar"):
            with tarfile.open(path) as tar:
                data += [tar.extractfile(e).read() for e in tar if not e.name.endswith((".json", ".cls"))]
    else:
        data = [path.read_bytes() for path in (folder / "images").iterdir()]
    return sorted(hashlib.sha256(each).hexdigest() for each in data)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.usefixtures("in_small_pieces")
def test_every_image_is_there_with_its_own_bytes(filled, tmp_path, name):
    """In as many pieces as it takes; again, it writes nothing."""
    report = filled.export(tmp_path / "out", name)
    assert (report.images, report.written, report.there, report.gone) == (12, 12, 0, 0)
    assert read_back(tmp_path / "out", name) == ids(filled)
    assert not list((tmp_path / "out").rglob("*.part"))
    again = filled.export(tmp_path / "out", name)
    assert (again.written, again.there, again.files) == (0, 12, report.files)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.usefixtures("in_small_pieces")
def test_a_run_that_was_stopped_goes_on(filled, tmp_path, name, monkeypatch):
    """Killed in its third piece, it ends with the files of an undisturbed run; those of Delta have names by chance."""
    form = export_module.FORMATS[name]
    write, calls = form.write, []

    def write_twice(tables, piece):
        calls.append(piece.number)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(tables, piece)

    monkeypatch.setattr(form, "write", write_twice)
    with pytest.raises(KeyboardInterrupt):
        filled.export(tmp_path / "out", name)
    monkeypatch.undo()
    monkeypatch.setattr(export_module, "_PIECE_ROWS", 3)
    report = filled.export(tmp_path / "out", name)
    assert (report.there, report.written) == (6, 6)
    assert read_back(tmp_path / "out", name) == ids(filled)
    if name == "delta":
        return
    filled.export(tmp_path / "whole", name)
    files = {path.relative_to(tmp_path / "whole"): path for path in (tmp_path / "whole").rglob("*") if path.is_file()}
    for inside, path in files.items():
        assert (tmp_path / "out" / inside).read_bytes() == path.read_bytes(), inside


@pytest.mark.parametrize("name", FORMATS)
def test_a_predicate_chooses(filled, tmp_path, name):
    """Only those images; none is fine too."""
    assert filled.export(tmp_path / "some", name, "format = 'png'").images == 1
    assert len(read_back(tmp_path / "some", name)) == 1
    assert filled.export(tmp_path / "none", name, "width > 100000").images == 0


def test_what_was_deleted_meanwhile_is_counted(filled, tmp_path, monkeypatch):
    """It was planned, it is not there any more, and that is said."""
    form = export_module.FORMATS["folder"]
    write = form.write

    def delete_one(tables, piece):
        tables.images.delete("format = 'png'")
        return write(tables, piece)

    monkeypatch.setattr(form, "write", delete_one)
    report = filled.export(tmp_path / "out", "folder")
    assert (report.images, report.written, report.gone) == (12, 11, 1)


def test_a_folder_says_what_is_known_of_each_file(filled, tmp_path):
    """One line a file in metadata.jsonl, with its name, URIs and figures."""
    filled.export(tmp_path / "out", "folder")
    lines = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    assert len(lines) == 12
    for line in lines:
        data = (tmp_path / "out" / line["file_name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == line["id"]
        assert line["uris"][0].endswith(line["file_name"].removeprefix("images/"))
        assert line["width"] > 0


def test_coco_has_the_regions_in_pixels(filled, tmp_path):
    """Boxes as left, top, width and height; categories by name."""
    image = filled.sql("select id, width, height from images order by id limit 1").to_pylist()[0]
    region = {"id": "r", "image_id": image["id"], "box_xyxy": [0.25, 0.5, 0.75, 1.0], "label": "cat", "score": 0.5}
    rows = pa.Table.from_pylist([region], schema=schema.REGIONS)
    filled.tables.all()["regions"].insert_new(rows)
    filled.export(tmp_path / "out", "coco")
    whole = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert whole["categories"] == [{"id": 1, "name": "cat"}]
    assert len(whole["images"]) == 12
    width, height = image["width"], image["height"]
    assert whole["annotations"][0]["bbox"] == [0.25 * width, 0.5 * height, 0.5 * width, 0.5 * height]
    file = next(each for each in whole["images"] if each["id"] == whole["annotations"][0]["image_id"])["file_name"]
    assert hashlib.sha256((tmp_path / "out" / file).read_bytes()).hexdigest() == image["id"]


def test_names_are_unique_and_safe(tmp_path, lake):
    """Two of one name, other cases of letters, signs that file systems refuse, very long ones."""
    photos = tmp_path / "hard"
    names = ["a/same.jpg", "b/same.jpg", "c/SAME.JPG", "d/what? is: this*.jpg", "e/" + "ü" * 110 + ".jpg", "f/con.jpg"]
    for seed, name in enumerate(names):
        (photos / name).parent.mkdir(parents=True)
        (photos / name).write_bytes(encode(make_image(seed)))
    lake.ingest(photos)
    images = lake.tables.images.read(["id", "uris", "format"])
    given = file_names(images)
    assert len({name.casefold() for name in given}) == 6
    assert all(len(name.encode()) < 240 and not set(name) & set('<>:"/\\|?*') for name in given)
    assert "_con.jpg" in given
    assert lake.export(tmp_path / "out").written == 6


def test_what_cannot_be_is_said(filled, tmp_path):
    """Another format, a folder of somebody else, other words than the run that was stopped."""
    with pytest.raises(InputError, match="'zip' is not known; use one of folder, parquet"):
        filled.export(tmp_path / "out", "zip")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds something that is no export"):
        filled.export(tmp_path / "mine")
    filled.export(tmp_path / "out", "csv")
    with pytest.raises(InputError, match="holds an export with --format csv"):
        filled.export(tmp_path / "out", "folder")
    with pytest.raises(InputError, match="is a file"):
        filled.export(tmp_path / "mine" / "letter.txt")
    with pytest.raises(InputError):
        filled.export(tmp_path / "other", where="no such thing")
    assert not (tmp_path / "other").exists()


@pytest.mark.usefixtures("in_small_pieces")
def test_delta_has_every_column(filled, tmp_path):
    """Each piece is a commit; values are those of the lake, the perceptual hash as the same 64 bits, signed."""
    filled.tag("width > 0", ["a", "b"])
    filled.export(tmp_path / "out", "delta")
    table = deltalake.DeltaTable(tmp_path / "out" / "images")
    found = table.to_pyarrow_table().sort_by("id")
    expected = filled.sql("select * from images order by id")
    assert table.version() == 3
    assert set(found.column_names) == {*expected.column_names, "bytes"}
    for name in expected.column_names:
        values = expected.column(name).to_pylist()
        if name == "perceptual_hash":
            values = [value - (1 << 64) if value >= 1 << 63 else value for value in values]
        assert found.column(name).to_pylist() == values, name
