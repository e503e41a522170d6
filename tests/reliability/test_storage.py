"""A disk that is full, a lake that may not be written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import imagelake
from imagelake.errors import LakeReadOnlyError
from pictures import encode, make_image
from privileges import let_all_reach, unprivileged

SMALL_DISK = """
set -e
mkdir -p "$1"
mount -t tmpfs -o size=3m tmpfs "$1"
set +e
"$2" -m imagelake ingest "$3" --lake "$1/t.lake"
echo "exit $?"
"$2" -m imagelake sql "select count(*) as n, count(distinct id) as ids from images" --lake "$1/t.lake" --json
cp -r "$1/t.lake" "$4"
"""


def test_a_full_disk_is_a_clear_error_and_the_lake_is_whole(tmp_path):
    """A real file system of 3 MB: one line, exit code 1, a lake that can be read and, with space, goes on."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here (unshare -rm is not allowed)")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(encode(make_image(0)))
    for seed in range(1, 9):
        noise = __import__("numpy").random.default_rng(seed).integers(0, 256, (400, 400, 3), dtype="uint8")
        (photos / f"b{seed}.png").write_bytes(encode(noise, "PNG"))
    saved = tmp_path / "saved.lake"
    done = subprocess.run(
        [
            "unshare",
            "-rm",
            "bash",
            "-c",
            SMALL_DISK,
            "bash",
            str(tmp_path / "disk"),
            sys.executable,
            str(photos),
            saved,
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "exit 1" in done.stdout, done.stdout + done.stderr
    assert "No space is left" in done.stderr
    assert "Traceback" not in done.stderr
    assert '"n": 0, "ids": 0' in done.stdout  # the commit that did not fit left nothing
    lake = imagelake.open(saved)
    assert lake.ingest(photos).added == 9


def test_a_lake_that_is_read_only(lake, photos, tmp_path):
    """Ingest and extract are refused in one line; search goes on; nothing has changed."""
    lake.ingest(photos)
    lake.extract()
    before = lake.info()
    let_all_reach(tmp_path)
    (photos / "new.jpg").write_bytes(encode(make_image(77)))
    if os.geteuid() != 0:
        for folder, _, _ in os.walk(lake.root):
            Path(folder).chmod(0o555)
    with unprivileged():
        with pytest.raises(LakeReadOnlyError, match="may not be written"):
            imagelake.open(lake.root).ingest(photos)
        with pytest.raises(LakeReadOnlyError, match="may not be written"):
            imagelake.open(lake.root).extract(imagelake.model("efficientnet-lite0", input_size=64))
        assert imagelake.open(lake.root).search(photos / "1.jpg", k=1)[0].distance == 0.0
        with pytest.raises(LakeReadOnlyError):
            imagelake.open(tmp_path / "new.lake", create=True)
    assert lake.info() == before
