"""A lake in a bucket does what a lake in a folder does."""

import threading

import pytest
from sources.s3_server import S3Server

import imagelake
from imagelake.errors import ImagelakeError, LakeError, LakeNotFoundError
from imagelake.sources.bucket import Bucket
from pictures import encode, make_image

ROOT = "s3://lakes/mine"


@pytest.fixture(scope="module")
def running():
    with S3Server("lakes", "photos") as server:
        yield server


@pytest.fixture
def s3(running, monkeypatch, tmp_path):
    running.reset()
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    return running


def test_a_bucket_without_a_lake(s3):
    """The error is the one of a folder without a lake; a bucket that is not there is an error too."""
    with pytest.raises(LakeNotFoundError, match="no lake at s3://lakes/mine"):
        imagelake.open(ROOT)
    with pytest.raises(LakeError, match="nolakes"):
        imagelake.open("s3://nolakes/mine", create=True)


def test_pictures_go_in_and_are_found(s3, photos):
    """Ingest, extract, info, SQL, search and export, from a folder into a bucket and out again; twice adds nothing."""
    lake = imagelake.open(ROOT, create=True)
    first, second = (lake.ingest(photos) for _ in range(2))
    assert (first.added, first.known, second.added, second.known) == (12, 0, 0, 12)
    assert (lake.extract().added, lake.extract().known) == (12, 12)

    again = imagelake.open(ROOT)
    assert again.info().images == 12
    (embedding_set,) = again.info().embedding_sets
    counts = f'select (select count(*) from images) + (select count(*) from "embeddings/{embedding_set.name}") as n'
    assert again.sql(counts).to_pylist() == [{"n": 24}]
    assert again.search(photos / "3.jpg")[0].uri.endswith("/3.jpg")
    done = again.export(photos.parent / "out")
    assert done.written == 12
    assert all(key.startswith("mine/") for key in s3.keys("lakes"))


def test_a_bucket_goes_into_a_bucket(s3):
    """Neither the pictures nor the lake are on this machine; what is below the lake is not taken for pictures."""
    for seed in range(4):
        s3.put("photos", f"p/{seed}.jpg", encode(make_image(seed)))
    lake = imagelake.open("s3://photos/p/lake", create=True)
    assert lake.ingest(Bucket("s3://photos/p")).added == 4
    assert lake.ingest(Bucket("s3://photos/p")).found == 4


def test_two_writers_add_nothing_twice(s3, photos):
    """Three ingests of the same pictures at once: each picture is one image, as the store writes on condition."""
    failed = []

    def run():
        try:
            imagelake.open(ROOT, create=True).ingest(photos)
        except ImagelakeError as error:
            failed.append(error)

    writers = [threading.Thread(target=run) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failed
    lake = imagelake.open(ROOT)
    assert lake.sql("select count(*) as a, count(distinct id) as b from images").to_pylist() == [{"a": 12, "b": 12}]


@pytest.mark.parametrize("name", ["my lake", "100%", "ü"])
def test_a_lake_may_have_any_name(s3, photos, name):
    """Spaces and signs in the name of a lake are as good as in a folder."""
    lake = imagelake.open(f"s3://lakes/{name}", create=True)
    assert lake.ingest(photos).added == 12
    assert lake.info().images == 12
