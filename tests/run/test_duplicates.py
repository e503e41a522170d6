"""Groups of duplicates in a lake, and which image to keep."""

import dataclasses
import itertools

import numpy as np
import pytest
from PIL import Image

import imagelake
from imagelake.errors import InputError
from imagelake.pixels.hashing import hamming_distance, perceptual_hash
from imagelake.run.duplicates import (
    EMBEDDING_DISTANCE,
    HASH_DISTANCE,
    DuplicateOptions,
    duplicates,
    save_duplicates_grid,
)
from pictures import encode, make_image


def find(lake, *by, **options):
    return duplicates(lake.tables, DuplicateOptions(by=by or None, **options))


def names(group):
    """File names of the keeper, and of each member with its kind."""
    return group.keeper.uris[0].split("/")[-1], [(m.kind, [u.split("/")[-1] for u in m.uris]) for m in group.members]


def textured(seed, width=320, height=240):
    """Detail everywhere, so that a hash has something to hold on to."""
    blobs = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture
def folder(tmp_path):
    """Four pictures; of the first an equal, a small and a recompressed copy, of the second a mirrored one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(4):
        (folder / f"{seed}.jpg").write_bytes(encode(textured(seed), quality=92))
    (folder / "0-again.jpg").write_bytes((folder / "0.jpg").read_bytes())
    (folder / "0-small.png").write_bytes(encode(textured(0, 160, 120), "PNG"))
    (folder / "0-poor.jpg").write_bytes(encode(textured(0), quality=30))
    return folder


def test_an_empty_lake(lake, tmp_path):
    """It has no duplicates, and a grid of none is drawn all the same."""
    report = find(lake)
    assert (report.images, report.groups, report.groups_count, report.duplicates) == (0, [], 0, 0)
    assert report.by == {"exact": 0, "hash": 0}
    save_duplicates_grid(lake.tables, report, tmp_path / "none.png")
    Image.open(tmp_path / "none.png").load()


def test_exact_and_near_copies_are_one_group(lake, folder, tmp_path):
    """With the largest file of the largest picture as the one to keep; files and bytes are counted."""
    lake.ingest(folder)
    report = find(lake)
    (group,) = report.groups
    keeper, members = names(group)
    assert {keeper, members[0][1][0]} == {"0.jpg", "0-again.jpg"}
    assert members[0][0] == "exact"
    assert sorted(members[1:]) == [("hash", ["0-poor.jpg"]), ("hash", ["0-small.png"])]
    gone = [folder / name for name in ("0.jpg", "0-poor.jpg", "0-small.png")]
    assert report.bytes_reclaimable == group.bytes_reclaimable == sum(path.stat().st_size for path in gone)
    assert (report.images, report.groups_count, report.duplicates) == (6, 1, 3)
    assert report.by == {"exact": 1, "hash": 2}
    assert (report.hash_distance, report.embedding_set, report.embedding_distance) == (HASH_DISTANCE, None, None)
    assert "imagelake extract" in report.notes[0]
    assert (group.keeper.kind, group.keeper.distance) == (None, 0)
    assert all(0 <= member.distance <= HASH_DISTANCE for member in group.members)
    save_duplicates_grid(lake.tables, report, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.width > 4 * 448


def test_kinds_are_chosen(lake, folder):
    """One alone, in any order; what was not asked for is not reported."""
    lake.ingest(folder)
    exact = find(lake, "exact")
    assert exact.by == {"exact": 1}
    assert exact.hash_distance is None
    assert [member.kind for member in exact.groups[0].members] == ["exact"]
    by_hash = find(lake, "hash")
    assert by_hash.by == {"hash": 2}
    assert len(by_hash.groups[0].keeper.uris) == 2
    assert find(lake, "hash", "exact").groups == find(lake, "exact", "hash").groups == find(lake).groups


def test_embeddings_find_what_hashes_do_not(lake, tmp_path):
    """A mirrored copy; and images without a vector are mentioned."""
    (tmp_path / "in").mkdir()
    for seed in range(3):
        (tmp_path / "in" / f"{seed}.jpg").write_bytes(encode(make_image(seed, 320, 240), quality=95))
    mirrored = np.ascontiguousarray(make_image(1, 320, 240)[:, ::-1])
    (tmp_path / "in" / "mirrored.jpg").write_bytes(encode(mirrored, quality=90))
    lake.ingest(tmp_path / "in")
    name = lake.extract().embedding_set
    assert find(lake, "exact", "hash").groups == []
    vectors = lake.sql(f'select vector::float[] as v from "embeddings/{name}"').column("v").to_pylist()
    apart = sorted(1 - float(np.dot(a, b)) for a, b in itertools.combinations(vectors, 2))
    limit = (apart[0] + apart[1]) / 2  # blobs are no photos: the default says nothing of them
    report = find(lake, embedding_distance=limit)
    (group,) = report.groups
    assert {names(group)[0], names(group)[1][0][1][0]} == {"1.jpg", "mirrored.jpg"}
    assert report.by == {"exact": 0, "hash": 0, "embedding": 1}
    assert (report.embedding_set, report.embedding_distance) == (name, limit)
    assert group.members[0].distance == pytest.approx(apart[0], abs=1e-5)
    assert report.notes == []
    assert find(lake, "embedding").embedding_distance == EMBEDDING_DISTANCE
    (tmp_path / "in" / "new.jpg").write_bytes(encode(make_image(8)))
    lake.ingest(tmp_path / "in")
    (note,) = find(lake, "embedding").notes
    assert note.startswith("1 image is without a vector")
    lake.tables.images.delete("true")
    assert find(lake).groups == []


def test_pictures_of_one_color_are_no_copies_of_each_other(lake, tmp_path):
    """Nor bare gradients: their hashes and vectors say nothing. Equal files still are."""
    (tmp_path / "in").mkdir()
    for number, color in enumerate([(0, 0, 0), (128, 128, 128), (255, 255, 255), (200, 20, 20)]):
        flat = np.full((90, 120, 3), color, np.uint8)
        (tmp_path / "in" / f"{number}.jpg").write_bytes(encode(flat))
        (tmp_path / "in" / f"{number}.png").write_bytes(encode(flat, "PNG"))
    step = np.zeros((90, 120, 3), np.uint8)
    step[:, 60:] = 255
    (tmp_path / "in" / "step.png").write_bytes(encode(step, "PNG"))
    (tmp_path / "in" / "pets.png").write_bytes(encode(np.ascontiguousarray(step[:, ::-1]), "PNG"))
    (tmp_path / "in" / "white again.jpg").write_bytes((tmp_path / "in" / "2.jpg").read_bytes())
    lake.ingest(tmp_path / "in")
    lake.extract()
    report = find(lake, embedding_distance=0.06)  # black and white are nearer than that
    (group,) = report.groups
    assert [member.kind for member in group.members] == ["exact"]
    assert report.notes == [
        "10 images are too plain for a hash to tell them apart; they were not compared by hash.",
        "8 images are of one color; they were not compared by embedding.",
    ]


def test_the_keeper(lake, tmp_path):
    """Most pixels; then a known time, the earliest; then the one that came first; then the larger file."""

    def put(name, quality, taken=None, size=(320, 240)):
        exif = Image.Exif()
        if taken:
            exif.get_ifd(0x8769)[0x9003] = taken
        data = encode(textured(5, *size), quality=quality, exif=exif.tobytes())
        (tmp_path / name).write_bytes(data)
        lake.ingest(tmp_path / name)

    def keeper():
        (group,) = find(lake, "hash").groups
        return names(group)[0]

    put("first.jpg", 60)
    put("second.jpg", 95)
    assert keeper() == "first.jpg"
    put("taken-later.jpg", 70, "2020:05:01 10:00:00")
    assert keeper() == "taken-later.jpg"
    put("taken.jpg", 75, "2019:05:01 10:00:00")
    assert keeper() == "taken.jpg"
    put("large.jpg", 80, size=(640, 480))
    assert keeper() == "large.jpg"
    (group,) = find(lake, "hash").groups
    assert len(group.members) == 4
    both = tmp_path / "both"
    both.mkdir()
    for name, quality in (("a.jpg", 60), ("b.jpg", 90)):
        (both / name).write_bytes(encode(textured(6), quality=quality))
    other = imagelake.open(tmp_path / "other.lake", create=True)
    other.ingest(both)
    assert names(find(other, "hash").groups[0])[0] == "b.jpg"


def test_every_member_is_near_its_keeper(lake, tmp_path):
    """Frames of a slow pan are each near the next; a group does not follow them to an unlike picture."""
    (tmp_path / "in").mkdir()
    wide = textured(7, 1400, 240)
    for number in range(40):
        frame = np.ascontiguousarray(wide[:, number * 4 : number * 4 + 320])
        (tmp_path / "in" / f"{number:02}.png").write_bytes(encode(frame, "PNG"))
    lake.ingest(tmp_path / "in")
    rows = lake.sql("select id, perceptual_hash as h from images order by uris[1]").to_pylist()
    hash_of = {row["id"]: row["h"] for row in rows}
    limit = 8
    steps = [hamming_distance(a["h"], b["h"]) for a, b in itertools.pairwise(rows)]
    assert max(steps) <= limit < hamming_distance(rows[0]["h"], rows[-1]["h"])
    report = find(lake, "hash", hash_distance=limit)
    assert report.groups_count > 1
    for group in report.groups:
        for member in group.members:
            assert member.distance == hamming_distance(hash_of[member.id], hash_of[group.keeper.id]) <= limit
    keepers = [hash_of[group.keeper.id] for group in report.groups]
    assert all(hamming_distance(a, b) > limit for a, b in itertools.combinations(keepers, 2))
    assert report == find(lake, "hash", hash_distance=limit)


def test_defaults_hold_for_sample_photos():
    """Half the size, or JPEG at quality 30, is within the default; other photos are not."""
    pytest.importorskip("skimage")
    from imagelake.pixels.decode import decode_rgb
    from imagelake.sources.sample_photos import sample_photos

    photos = [decode_rgb(path.read_bytes()) for path in sample_photos() if "motorcycle" not in path.name][:8]
    hashes = [perceptual_hash(photo) for photo in photos]
    for photo, own in zip(photos, hashes, strict=True):
        small = np.asarray(Image.fromarray(photo).reduce(2))
        for copy in (small, decode_rgb(encode(photo, quality=30))):
            assert hamming_distance(own, perceptual_hash(copy)) <= HASH_DISTANCE
    assert all(hamming_distance(a, b) > HASH_DISTANCE for a, b in itertools.combinations(hashes, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": ()}, "exact, hash, embedding"),
        ({"by": ("hush",)}, "'hush'"),
        ({"hash_distance": -1}, "0 to 64"),
        ({"hash_distance": 65}, "0 to 64"),
        ({"embedding_distance": float("nan")}, "0 or more"),
        ({"embedding_distance": -0.1}, "0 or more"),
        ({"by": ("embedding",)}, "imagelake extract"),
        ({"embedding_set": "other"}, "no embedding set"),
        ({"embedding_set": "other", "by": ("hash",)}, "Drop one"),
    ],
)
def test_options_that_cannot_be(lake, options, message):
    """Say what was given, what is allowed, what to do."""
    with pytest.raises(InputError, match=message):
        duplicates(lake.tables, DuplicateOptions(**options))


def test_which_vectors_are_compared(lake, folder):
    """The default model's among several; without it they must be named; of l2 the distance must be given."""
    lake.ingest(folder)
    lake.extract(imagelake.model("efficientnet-lite0", input_size=32, metric="l2"))
    assert "Give --embedding-distance" in find(lake).notes[0]
    assert find(lake, embedding_distance=0.0).by["embedding"] == 0
    lake.extract(imagelake.model("efficientnet-lite0", input_size=32))
    assert "choose one with --set" in find(lake).notes[0]
    chosen = lake.info().embedding_sets[0].name
    assert find(lake, embedding_set=chosen, embedding_distance=0.01).embedding_set == chosen


def test_the_grid_is_a_png(lake):
    """Another name is refused before anything is drawn, and so is a place that cannot be."""
    report = find(lake)
    with pytest.raises(InputError, match=r"\.png"):
        save_duplicates_grid(lake.tables, report, "x.jpg")
    with pytest.raises(InputError, match="cannot be written"):
        save_duplicates_grid(lake.tables, report, "/dev/null/x.png")


def test_an_image_that_is_gone_leaves_a_gray_square(lake, folder, tmp_path):
    """Another program may delete what a report still names; long groups say how many are not drawn."""
    lake.ingest(folder)
    report = find(lake)
    (group,) = report.groups
    many = dataclasses.replace(group, members=group.members * 4)
    lake.tables.images.delete("true")
    save_duplicates_grid(lake.tables, dataclasses.replace(report, groups=[many]), tmp_path / "gone.png")
    with Image.open(tmp_path / "gone.png") as grid:
        assert grid.width < 8 * 500
