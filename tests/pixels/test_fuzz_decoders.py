"""No damaged file does more than be described or rejected: 500 of the seeded run of `benchmarks/fuzz_decoders.py`."""

import json
import subprocess
import sys

import pytest
from pixels.decoder_runs import GOOD, run_mutants
from pixels.mutations import mutant
from pixels.seed_pictures import seed_pictures

import imagelake

SEED = 2
COUNT = 500
SUFFIXES = {"jpeg": "jpg", "tiff": "tif"}


@pytest.fixture(scope="module")
def pictures():
    return seed_pictures()


def test_whole_pictures_are_described(pictures):
    """What is damaged is whole before: each seed is a picture of the format that its name says."""
    from imagelake.pixels.describe import describe

    for name, data in pictures.items():
        assert describe(data).format == name.split()[0]


def test_damage_is_repeatable(pictures):
    """A seed and a number give the same file; another seed gives another."""
    for number in range(0, 200, 7):
        assert mutant(SEED, number, pictures) == mutant(SEED, number, pictures)
    assert mutant(SEED, 5, pictures) != mutant(SEED + 1, 5, pictures)


def test_damaged_files_are_described_or_rejected(pictures):
    """Each of 500 ends so: no other error, no warning, no crash, no hang, no more memory than it may take."""
    outcomes = list(run_mutants(SEED, range(COUNT)))
    assert [outcome.key for outcome in outcomes] == [str(number) for number in range(COUNT)]
    assert [outcome for outcome in outcomes if outcome.outcome not in GOOD] == []
    sizes = {str(number): len(mutant(SEED, number, pictures).data) for number in range(COUNT)}
    greedy = [each for each in outcomes if (each.peak_bytes or 0) > each.memory_allowed(sizes[each.key])]
    assert greedy == []
    assert {outcome.outcome for outcome in outcomes} == GOOD


def test_ingest_accounts_for_every_damaged_file(pictures, tmp_path):
    """Of a folder of 500, found = added + known + rejected, and each rejection has a reason."""
    folder = tmp_path / "damaged"
    folder.mkdir()
    for number in range(COUNT):
        made = mutant(SEED, number, pictures)
        form = made.name.split()[0]
        (folder / f"{number:03}.{SUFFIXES.get(form, form)}").write_bytes(made.data)
    command = [sys.executable, "-m", "imagelake", "ingest", str(folder), "--lake", str(tmp_path / "l.lake"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["found"] == COUNT
    assert report["found"] == report["added"] + report["known"] + report["rejected"]
    lake = imagelake.open(tmp_path / "l.lake")
    reasons = lake.sql("SELECT uri, reason FROM rejections").to_pylist()
    assert len({row["uri"] for row in reasons}) == report["rejected"] > 0
    assert all(row["reason"].strip() for row in reasons)
    assert lake.sql("SELECT count(*) AS images FROM images").to_pylist() == [{"images": report["added"]}]
