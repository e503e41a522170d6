"""Several runs at once into one lake."""

import json
import shutil
import subprocess
import sys

import imagelake


def test_two_ingests_at_once_lose_nothing_and_duplicate_nothing(tmp_path, photos):
    """Overlapping folders, a lake that neither finds: both finish, and every URI is there."""
    other = tmp_path / "other"
    shutil.copytree(photos, other)
    root = str(tmp_path / "shared.lake")
    command = [sys.executable, "-m", "imagelake", "ingest", "--lake", root, "--json"]
    runs = [
        subprocess.Popen([*command, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for folder in (photos, other)
    ]
    reports = []
    for process in runs:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
        reports.append(json.loads(out))
    assert sum(report["added"] for report in reports) == 12
    assert all(report["found"] == report["added"] + report["known"] + report["rejected"] == 12 for report in reports)
    lake = imagelake.open(root)
    rows = lake.sql("select count(*) as n, count(distinct id) as ids, sum(len(uris))::int as uris from images")
    assert rows.to_pylist() == [{"n": 12, "ids": 12, "uris": 24}]


def test_two_extracts_at_once_make_one_vector_an_image(tmp_path, lake, photos):
    """Both finish."""
    lake.ingest(photos)
    command = [sys.executable, "-m", "imagelake", "extract", "--lake", lake.root, "--input-size", "64", "--json"]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for process in runs:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
        report = json.loads(out)
        assert report["added"] + report["known"] == report["found"] == 12
    (name,) = lake.tables.embedding_sets()
    assert lake.tables.embeddings(name).count() == 12
