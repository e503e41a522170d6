"""The laws of groups: stars around the best rows, the same whichever way near rows are found, in bounded memory."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagelake.search import groups
from imagelake.search.groups import Near, code_reach, stars, vector_reach


def matrix_reach(near, distance):
    """Near as a matrix says it is."""

    def reach(asked):
        place, row = np.nonzero(near[asked])
        return Near(place, row, distance[asked[place], row])

    return reach


def oracle(matrices):
    """The rule in plain words: the first without a group takes everybody without one who is near."""
    count = len(matrices[0][0])
    center, reach, distance = [-1] * count, [-1] * count, [0.0] * count
    for row in range(count):
        if center[row] >= 0:
            continue
        center[row] = row
        for other in range(row + 1, count):
            linked = [number for number, (near, _) in enumerate(matrices) if near[row, other]]
            if center[other] < 0 and linked:
                center[other], reach[other] = row, linked[0]
                distance[other] = matrices[linked[0]][1][row, other]
    return center, reach, distance


def as_lists(found):
    return found.center.tolist(), found.reach.tolist(), found.distance.tolist()


@pytest.mark.parametrize("rows_a_block", [1, 3, 1000])
@pytest.mark.parametrize("count", [0, 1, 2, 60])
def test_stars_equal_the_rule(count, rows_a_block, monkeypatch):
    """With one way to be near, with two and with none, whatever the size of blocks; every row is told of once."""
    monkeypatch.setattr(groups, "_LEAST_ROWS", rows_a_block)
    monkeypatch.setattr(groups, "_MOST_ROWS", rows_a_block)
    random = np.random.default_rng(count)
    for share in (0.0, 0.02, 0.2, 1.0):
        matrices = []
        for _ in range(2):
            distance = random.random((count, count))
            distance = (distance + distance.T) / 2
            matrices.append(((distance + distance.T) / 2 <= share / 2, distance))
        for used in (matrices, matrices[:1]):
            told = []
            found = stars(count, [matrix_reach(*each) for each in used], told.append)
            assert as_lists(found) == oracle(used)
            assert sum(told) == count
    assert stars(count, []).center.tolist() == list(range(count))


def test_a_chain_is_cut():
    """Rows that are each near the next one only do not end in one group: all are near their center."""
    at = np.arange(9)
    distance = np.abs(at[:, None] - at[None]).astype(float)
    found = stars(9, [matrix_reach(distance <= 1, distance)])
    assert found.center.tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8]
    assert found.distance.max() == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 40), st.integers(0, 64))
def test_codes_are_near_by_counting_bits(seed, count, radius):
    """All pairs in one go and block by block give what counting gives; a code that says nothing is near nobody."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, 2**64, 4, dtype=np.uint64)[random.integers(0, 4, count)]
    codes ^= np.uint64(1) << random.integers(0, 64, count, dtype=np.uint64)
    telling = random.random(count) < 0.8
    distance = np.bitwise_count(codes[:, None] ^ codes[None]).astype(float)
    near = (distance <= radius) & telling[:, None] & telling[None]
    expected = oracle([(near, distance)])
    assert as_lists(stars(count, [code_reach(codes, telling, radius)])) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "_PAIRS", 0)
        assert as_lists(stars(count, [code_reach(codes, telling, radius)])) == expected


@pytest.mark.parametrize("count", [0, 1, 50, 1500])
def test_vectors_are_near_by_exact_distance(count):
    """Those that have a vector; equal vectors are near each other."""
    random = np.random.default_rng(count)
    rows = np.flatnonzero(random.random(count) < 0.7)
    vectors = random.standard_normal((len(rows), 16)).astype(np.float32)
    vectors[len(rows) // 2 :] = vectors[: len(rows) - len(rows) // 2]
    vectors[len(rows) * 3 // 4 :] *= 1.0 + 0.01 * random.random((len(rows) - len(rows) * 3 // 4, 16), np.float32)
    found = stars(count, [vector_reach(vectors, rows, count, 0.05, "cosine")])
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
    distance = np.full((count, count), np.inf)
    distance[np.ix_(rows, rows)] = 1 - unit @ unit.T
    center, reach, apart = oracle([(distance <= 0.05, distance)])
    assert found.center.tolist() == center
    assert found.reach.tolist() == reach
    np.testing.assert_allclose(found.distance, apart, atol=1e-6)


MEMORY = """
from pathlib import Path
import numpy as np
from imagelake.search.groups import code_reach, stars
count, random = 100_000, np.random.default_rng(0)
codes = {codes}
found = stars(count, [code_reach(codes, np.ones(count, bool), 4)])
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak = int(status["VmHWM"].split()[0]) >> 10  # ru_maxrss would begin at the parent's
print(len(np.unique(found.center)), int(np.bitwise_count(codes ^ codes[found.center]).max()), peak)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("codes", "fewest", "most"),
    [
        ("np.where(np.arange(count) % 10, random.integers(0, 2**63, count, dtype=np.uint64), 7)", 90_000, 90_001),
        ("np.full(count, 7, np.uint64)", 1, 1),
        ("np.bitwise_or.reduce(np.uint64(1) << random.integers(0, 64, (3, count), dtype=np.uint64))", 2, 1000),
    ],
    ids=["10,000 alike", "all alike", "all near"],
)
def test_memory_is_bounded(codes, fewest, most):
    """100,000 images, of which many are near many: up to five thousand million pairs, in less than a gigabyte."""
    command = [sys.executable, "-c", MEMORY.format(codes=codes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    centers, farthest, peak_mib = map(int, done.stdout.split())
    assert fewest <= centers <= most
    assert farthest <= 4
    assert peak_mib < 1000
