"""What people wrote beside pictures arrives with them: every picture once, every box in its place."""

import csv
import datetime as dt
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagelake.errors import InputError
from imagelake.files import display_name, path_to_uri
from imagelake.sources.annotated import Coco, ImageFolder, Voc, to_metadata
from pictures import encode, make_image


def rows_of(source):
    return [row for batch in source.batches() for row in batch.to_pylist()]


def known_of(source):
    """The metadata by the picture's name, None where there is none; errors must be none."""
    rows = rows_of(source)
    assert [row["error"] for row in rows if row["error"]] == []
    return {display_name(row["uri"]): row["metadata"] and json.loads(row["metadata"]) for row in rows}


def put(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode(make_image(seed)))
    return folder


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


# to_metadata


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, None),
        ({"a": None, "b": b"bytes"}, None),
        ({"label": "cat"}, {"labels": ["cat"]}),
        ({"label": 3, "class": "cat", "labels": ["dog", "cat", None]}, {"labels": ["3", "cat", "dog"]}),
        ({"labels": {"x": 1}}, {"labels_as_given": {"x": 1}}),
        ({"regions": "EMEA"}, {"regions_as_given": "EMEA"}),
        ({"regions": [{"box_xyxy": [0, 0, 5, 5]}]}, {"regions_as_given": [{"box_xyxy": [0, 0, 5, 5]}]}),
        ({"regions": [{"box_xyxy": [0, 0.5, 1, 1], "label": "a"}]},) * 2,
        ({"metadata": '{"labels": ["a"], "x": 1}', "label": "b", "x": 2}, {"labels": ["a", "b"], "x": 2}),
        ({"metadata": "words"}, {"metadata": "words"}),
        ({"when": dt.date(2024, 2, 3), "long": dt.timedelta(seconds=3)}, {"when": "2024-02-03", "long": 3.0}),
        ({"nan": [float("nan"), 1.5], "inner": {"raw": b"x", "y": None}}, {"nan": [None, 1.5], "inner": {"y": None}}),
        ({"vector": [0.5] * 65, "words": ["w"] * 65, "short": [1] * 64}, {"words": ["w"] * 65, "short": [1] * 64}),
        ({"half": "\ud83d"}, {"half": "?"}),
    ],
)  # fmt: skip
def test_anything_becomes_json(row, expected):
    """Labels are one list of texts; bytes, long vectors and nulls are left out; what misuses a name is renamed."""
    found = to_metadata(row)
    assert (found and json.loads(found)) == expected


def test_a_value_nested_without_end_is_cut(tmp_path):
    """It ends at a depth that any reader of JSON can follow."""
    deep = []
    for _ in range(600):
        deep = [deep]
    assert json.loads(to_metadata({"a": 1, "deep": deep})) == {"a": 1}


# ImageFolder


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_listing_describes_its_pictures(tmp_path, form):
    """In each of the three forms: the label in labels, numbers as numbers, any script; unlisted pictures without."""
    folder = put(tmp_path / "data", "a.jpg", "below/ü 1.jpg", "unlisted.jpg")
    rows = [
        {"file_name": "a.jpg", "label": "7", "weight": 1.5, "text": "写真, two", "code": "007"},
        {"file_name": "below/ü 1.jpg", "label": "cat", "weight": 2, "text": 'with "quotes"', "code": "x"},
    ]
    if form == "csv":
        write_csv(folder / "metadata.csv", rows)
    elif form == "jsonl":
        (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    else:
        pq.write_table(pa.Table.from_pylist(rows), folder / "metadata.parquet")
    source = ImageFolder(str(folder))
    assert known_of(source) == {
        "a.jpg": {"labels": ["7"], "weight": 1.5, "text": "写真, two", "code": "007"},
        "ü 1.jpg": {"labels": ["cat"], "weight": 2, "text": 'with "quotes"', "code": "x"},
        "unlisted.jpg": None,
    }
    assert source.estimate() == 3


def test_each_folder_has_its_own_listing(tmp_path):
    """Of two that name a picture, the nearer one holds; links are followed, and loops end."""
    folder = put(tmp_path / "data", "train/a.jpg", "test/a.jpg")
    put(tmp_path / "elsewhere", "b.jpg")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "train" / "loop").symlink_to(folder)
    for listing, name, split in (
        (folder, "train/a.jpg", "outer"),
        (folder / "train", "a.jpg", "train"),
        (folder / "test", "a.jpg", "test"),
        (tmp_path / "elsewhere", "b.jpg", "linked"),
    ):
        (listing / "metadata.jsonl").write_text(json.dumps({"file_name": name, "split": split}))
    known = {row["uri"]: json.loads(row["metadata"])["split"] for row in rows_of(ImageFolder(str(folder)))}
    uri = path_to_uri(folder)
    assert known == {
        f"{uri}/linked/b.jpg": "linked",
        f"{uri}/test/a.jpg": "test",
        f"{uri}/train/a.jpg": "train",
    }


def test_a_picture_that_is_listed_and_missing_is_a_row(tmp_path):
    """With the reason, also where the name leads out of the folder: no file there is read."""
    put(tmp_path, "outside.jpg")
    folder = put(tmp_path / "data", "a.jpg")
    write_csv(folder / "metadata.csv", [{"file_name": name} for name in ("a.jpg", "gone.jpg", "../outside.jpg")])
    found, gone, outside = rows_of(ImageFolder(str(folder)))
    assert found["bytes"] == (folder / "a.jpg").read_bytes()
    assert gone["uri"] == path_to_uri(folder / "gone.jpg")
    assert outside["uri"] == path_to_uri(tmp_path / "outside.jpg")
    for row in (gone, outside):
        assert row["bytes"] is None
        assert "metadata.csv' lists it, but there is no such picture" in row["error"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("other.txt", b"", "holds no metadata.csv"),
        ("metadata.csv", b"name,label\na.jpg,cat\n", "row 1 has no file_name"),
        ("metadata.csv", b"file_name\na.jpg,cat\n", "more cells"),
        ("metadata.csv", b"file_name,x\n\xff,1\n", "cannot be read"),
        ("metadata.csv", b"file_name,x\na.jpg,1\na.jpg,2\n", "'a.jpg' twice"),
        ("metadata.jsonl", b"[1]\n", "row 1 has no file_name"),
        ("metadata.jsonl", b"{'x': 1}\n", "cannot be read"),
        ("metadata.jsonl", b"[" * 100_000, "cannot be read"),
        ("metadata.parquet", b"PAR1 no", "cannot be read"),
    ],
)
def test_a_listing_that_cannot_be_used(tmp_path, name, content, message):
    """The message names the file and what is wrong with it."""
    (put(tmp_path, "a.jpg") / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        rows_of(ImageFolder(str(tmp_path)))


def test_two_listings_in_one_folder(tmp_path):
    """Nobody knows which one holds."""
    put(tmp_path, "a.jpg")
    (tmp_path / "metadata.csv").write_text("file_name\na.jpg\n")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.jpg"}')
    with pytest.raises(InputError, match=r"both metadata\.csv and metadata\.jsonl"):
        rows_of(ImageFolder(str(tmp_path)))


def test_an_empty_listing(tmp_path):
    """Describes nothing: the pictures come without metadata."""
    put(tmp_path, "a.jpg")
    (tmp_path / "metadata.csv").write_text("")
    assert known_of(ImageFolder(str(tmp_path))) == {"a.jpg": None}


def test_folders_that_are_not_there(tmp_path):
    """The message names them, before anything is read."""
    for make in (ImageFolder, Voc):
        with pytest.raises(InputError, match="nowhere"):
            make(str(tmp_path / "nowhere"))
    (tmp_path / "a.json").write_text("{}")
    for annotations, images in ((tmp_path / "a.json", tmp_path / "nowhere"), (tmp_path / "nowhere.json", tmp_path)):
        with pytest.raises(InputError, match="nowhere"):
            Coco(str(annotations), str(images))


# COCO


def coco(path, **parts):
    path.write_text(json.dumps(parts))
    return str(path)


IMAGE = {"id": 7, "file_name": "a.jpg", "width": 160, "height": 120, "license": 3}
CATEGORY = {"id": 18, "name": "dog", "supercategory": "animal"}
BOX = {"id": 1, "image_id": 7, "category_id": 18, "bbox": [16, 30, 80, 60]}


def test_coco_boxes_become_regions(tmp_path):
    """In shares of the picture, cut at its edges, with the category's name; crowds stay marked."""
    folder = put(tmp_path / "images", "a.jpg", "sub/b.jpg", "unlisted.jpg")
    annotations = coco(
        tmp_path / "instances.json",
        images=[IMAGE, {"id": 8, "file_name": "sub/b.jpg", "width": 160, "height": 120}],
        annotations=[
            BOX | {"iscrowd": 0, "segmentation": [[1, 2, 3, 4]], "area": 4800},
            BOX | {"id": 2, "bbox": [-8.0, 90, 16, 60], "iscrowd": 1, "segmentation": {"counts": [1], "size": [1, 1]}},
        ],
        categories=[CATEGORY],
    )
    assert known_of(Coco(annotations, str(folder))) == {
        "a.jpg": {
            "id": 7,
            "license": 3,
            "regions": [
                {"box_xyxy": [0.1, 0.25, 0.6, 0.75], "label": "dog", "iscrowd": 0},
                {"box_xyxy": [0.0, 0.75, 0.05, 1.0], "label": "dog", "iscrowd": 1},
            ],
        },
        "b.jpg": {"id": 8},
        "unlisted.jpg": None,
    }


def test_coco_captions(tmp_path):
    """All of a picture's captions in their order, and no categories are needed."""
    folder = put(tmp_path / "images", "a.jpg")
    captions = [{"id": number, "image_id": 7, "caption": text} for number, text in enumerate(["A dog.", "Ein Hund."])]
    annotations = coco(tmp_path / "captions.json", images=[IMAGE], annotations=captions)
    assert known_of(Coco(annotations, str(folder)))["a.jpg"]["captions"] == ["A dog.", "Ein Hund."]


def test_a_coco_picture_that_is_missing_is_a_row(tmp_path):
    """Under the URI that it will have, with the reason."""
    folder = put(tmp_path / "images")
    (row,) = rows_of(Coco(coco(tmp_path / "a.json", images=[IMAGE]), str(folder)))
    assert row["uri"] == path_to_uri(folder / "a.jpg")
    assert "no such picture" in row["error"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "no 'images'"),
        ({"images": [{"id": 1}]}, "no 'file_name'"),
        ({"images": [IMAGE, IMAGE]}, "same id"),
        ({"images": 5}, "not COCO's JSON"),
        ({"images": [[]]}, "not COCO's JSON"),
        ({"images": [IMAGE], "annotations": [BOX]}, "category 18, which is not listed"),
        ({"images": [], "annotations": [BOX], "categories": [CATEGORY]}, "image 7, which is not listed"),
        ({"images": [IMAGE | {"width": 0}], "annotations": [BOX], "categories": [CATEGORY]}, "of 0 x 120"),
        ({"images": [IMAGE | {"width": "1"}], "annotations": [BOX], "categories": [CATEGORY]}, "not COCO's JSON"),
        ({"images": [IMAGE], "annotations": [BOX | {"bbox": [1, 2]}], "categories": [CATEGORY]}, "not COCO's JSON"),
        ({"images": [IMAGE], "annotations": [BOX | {"bbox": [-1e999] * 4}], "categories": [CATEGORY]}, "no place"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_coco(tmp_path, parts, message):
    """The message says where it contradicts the form."""
    source = Coco(coco(tmp_path / "a.json", **parts), str(put(tmp_path / "images")))
    with pytest.raises(InputError, match=message):
        rows_of(source)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"[1, 2", b"[" * 100_000, b"[]"])
def test_a_file_that_is_no_json(tmp_path, content):
    """It is refused as that."""
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match="not COCO's JSON"):
        rows_of(Coco(str(tmp_path / "a.json"), str(put(tmp_path / "images"))))


# Pascal VOC

OBJECT = """<object><name>dog</name><truncated>1</truncated><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>31</ymin><xmax>80</xmax><ymax>120.0</ymax></bndbox>
<part><name>head</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>6</xmax><ymax>6</ymax></bndbox></part></object>"""
SIZE = "<size><width>160</width><height>120</height><depth>3</depth></size>"


def voc(folder, **annotations):
    (folder / "Annotations").mkdir(parents=True, exist_ok=True)
    (folder / "JPEGImages").mkdir(parents=True, exist_ok=True)
    for name, text in annotations.items():
        (folder / "Annotations" / f"{name}.xml").write_text(text)
    return Voc(str(folder))


def test_voc_objects_become_regions(tmp_path):
    """Boxes count pixels from 1 and include the last; marks stay; pictures without a file come without metadata."""
    put(tmp_path / "JPEGImages", "a.jpg", "b.c.jpg", "none.jpg")
    whole = f'<?xml version="1.0" encoding="latin-1"?><annotation>{SIZE}{OBJECT}</annotation>'
    source = voc(tmp_path, a=whole, **{"b.c": f"<annotation>{SIZE}</annotation>"})
    region = {"box_xyxy": [0.0, 0.25, 0.5, 1.0], "label": "dog", "difficult": False, "truncated": True}
    assert known_of(source) == {"a.jpg": {"regions": [region]}, "b.c.jpg": {"regions": []}, "none.jpg": None}
    assert source.estimate() == 3


def test_a_voc_file_without_a_picture_is_a_row(tmp_path):
    """So every annotation is accounted for."""
    (row,) = rows_of(voc(tmp_path, a=f"<annotation>{SIZE}</annotation>"))
    assert row["uri"] == path_to_uri(tmp_path / "JPEGImages" / "a.jpg")
    assert "no such picture" in row["error"]


LAUGHS = """<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><annotation>&b;</annotation>"""
OUTSIDE = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><annotation>&f;</annotation>"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no element found"),
        (b"<annotation>", "no element found"),
        (b"<annotation/>", "no <size/width>"),
        (f"<annotation>{SIZE.replace('160', '0')}{OBJECT}</annotation>".encode(), "of 0.0 x 120.0"),
        (f"<annotation>{SIZE}{OBJECT.replace('31', 'x')}</annotation>".encode(), "could not convert"),
        (f"<annotation>{SIZE}{OBJECT.replace('31', 'nan')}</annotation>".encode(), "no place"),
        (f"<annotation>{SIZE}<object><bndbox/></object></annotation>".encode(), "no <bndbox/xmin>"),
        (LAUGHS.encode(), "DOCTYPE or zero bytes, which are refused"),
        (OUTSIDE.encode(), "DOCTYPE or zero bytes, which are refused"),
        (LAUGHS.encode("utf-16"), "can't decode"),
        (LAUGHS.encode("utf-16-le"), "DOCTYPE or zero bytes, which are refused"),
        (LAUGHS.encode("utf-16-be"), "DOCTYPE or zero bytes, which are refused"),
        (b'<?xml version="1.0" encoding="utf-7"?>' + LAUGHS.replace("<!D", "+ADwAIQ-D").encode(), "not well-formed"),
        (b"<annotation>" + b" " * (16 << 20), "16,777,216"),
    ],
)
def test_a_voc_file_that_cannot_be_used(tmp_path, content, message):
    """Its picture is a row with the reason, and the others come; entities are refused in whatever encoding."""
    put(tmp_path / "JPEGImages", "a.jpg", "b.jpg")
    source = voc(tmp_path)
    (tmp_path / "Annotations" / "a.xml").write_bytes(content)
    bad, good = rows_of(source)
    assert message in bad["error"]
    assert "a.xml" in bad["error"]
    assert bad["bytes"] is None
    assert good["bytes"] is not None


def test_a_voc_file_that_cannot_be_opened(tmp_path):
    """A reason like any other."""
    put(tmp_path / "JPEGImages", "a.jpg")
    source = voc(tmp_path)
    (tmp_path / "Annotations" / "a.xml").symlink_to(tmp_path / "nowhere")
    assert "No such file" in rows_of(source)[0]["error"]
