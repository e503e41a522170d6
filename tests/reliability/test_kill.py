"""kill -9 at any point: the lake opens, holds no half row and no duplicate, and the next run finishes the job."""

import hashlib
import random
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import imagelake
from imagelake.run.extract import extract
from imagelake.run.ingest import ingest
from imagelake.sources.folder import Folder
from imagelake.steps.pipeline import Pipeline
from pictures import encode, make_image

# Small commits, so that there are many points to be killed at.
WORKER = textwrap.dedent(
    """
    import sys
    import imagelake
    from imagelake.run.commits import CommitSize
    from imagelake.run.extract import extract
    from imagelake.run.ingest import ingest
    from imagelake.sources.folder import Folder
    from imagelake.steps.pipeline import Pipeline

    verb, root, photos = sys.argv[1:]
    lake = imagelake.open(root, create=True)
    print("ready", flush=True)
    size = CommitSize(max_rows=16)
    if verb == "ingest":
        ingest(lake.tables, Folder(photos), commit=size)
    else:
        model = imagelake.model("efficientnet-lite0", precision="fp32", input_size=64)
        extract(lake.tables, Pipeline(embed=model), commit=size)
    print("done", flush=True)
    """
)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """160 pictures, 8 copies and 4 broken files."""
    folder = tmp_path_factory.mktemp("many")
    for seed in range(160):
        (folder / f"{seed:03}.jpg").write_bytes(encode(make_image(seed, 480, 360)))
    for seed in range(8):
        (folder / f"copy-{seed}.jpg").write_bytes((folder / f"{seed * 9:03}.jpg").read_bytes())
    for number in range(4):
        (folder / f"broken-{number}.jpg").write_bytes(b"\xff\xd8\xff" + bytes([number]) * 10)
    return folder


def run(verb, root, photos, kill_after_s=None):
    """Run a verb in a process of its own; kill it so long after it got ready. Returns whether it got done."""
    arguments = [sys.executable, "-c", WORKER, verb, str(root), str(photos)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        if kill_after_s is None:
            out, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors.decode()
            return True
        assert process.stdout.readline() == b"ready\n"
        try:
            process.wait(kill_after_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        out, _ = process.communicate(timeout=60)
        return b"done" in out


def check_whole(lake):
    """No half row, no duplicate, every row's bytes are those of its id."""
    rows = lake.tables.images.read(["id", "uris", "sharpness"])
    ids = rows.column("id").to_pylist()
    assert len(set(ids)) == len(ids)
    assert rows.column("sharpness").null_count == 0
    for image_id, data in lake.tables.images.bytes_of(ids).items():
        assert hashlib.sha256(data).hexdigest() == image_id
    for name in lake.tables.embedding_sets():
        vectors = lake.tables.embeddings(name).read(["id"]).column("id").to_pylist()
        assert len(set(vectors)) == len(vectors)
        assert set(vectors) <= set(ids)


def content(lake):
    """What the lake holds, but for times."""
    images = lake.sql("select * exclude (added_at, uris), list_sort(uris) as uris from images order by id")
    rejections = lake.sql("select uri, stage, reason from rejections order by uri")
    return images, rejections


@pytest.fixture(scope="module")
def undisturbed(many, tmp_path_factory):
    """The lake of a run that nobody disturbs."""
    root = tmp_path_factory.mktemp("undisturbed") / "t.lake"
    run("ingest", root, many)
    run("extract", root, many)
    return imagelake.open(root)


@pytest.mark.parametrize("verb", ["ingest", "extract"])
def test_killed_ten_times(verb, many, tmp_path, undisturbed):
    """At ten random times; after the last kill one more run makes the lake of an undisturbed run."""
    root = tmp_path / "t.lake"
    if verb == "extract":
        run("ingest", root, many)
    moments = random.Random(7)  # the kills differ anyway: the machine's own pace decides where they fall
    for _ in range(10):
        run(verb, root, many, kill_after_s=moments.uniform(0.02, 0.9))
        check_whole(imagelake.open(root, create=True))
    run(verb, root, many)
    run("extract", root, many)
    lake = imagelake.open(root)
    check_whole(lake)
    for found, expected in zip(content(lake), content(undisturbed), strict=True):
        assert found.equals(expected)
    (name,) = lake.tables.embedding_sets()
    query = f'select id, vector::float[] as vector from "embeddings/{name}" order by id'
    found, expected = lake.sql(query), undisturbed.sql(query)
    assert found.column("id").equals(expected.column("id"))
    # A picture that shares its batch with others may differ in the last bits of float32.
    np.testing.assert_allclose(
        np.stack(found.column("vector").to_pylist()), np.stack(expected.column("vector").to_pylist()), atol=1e-5
    )


def test_nothing_is_left_to_do_after_a_whole_run(undisturbed, many):
    """Neither for ingest nor for extract."""
    report = ingest(undisturbed.tables, Folder(str(many)))
    assert (report.found, report.added, report.known, report.rejected) == (172, 0, 168, 4)
    model = imagelake.model("efficientnet-lite0", precision="fp32", input_size=64)
    assert extract(undisturbed.tables, Pipeline(embed=model)).added == 0
