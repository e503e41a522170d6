"""The laws of IdSet: it is a set."""

import hashlib
import pickle

import numpy as np
import pyarrow as pa

from imagelake.lake.ids import IdRows, IdSet


def names(numbers):
    return pa.array([hashlib.sha256(str(n).encode()).hexdigest() for n in numbers], pa.string())


def test_the_empty_set_holds_nothing():
    """Nothing is in it, and nothing can be asked of it."""
    empty = IdSet([])
    assert len(empty) == 0
    assert not empty.contains(names(range(3))).any()
    assert empty.contains(names([])).shape == (0,)


def test_it_holds_what_was_put_in_and_nothing_else():
    """From several arrays, in any order, and after a journey to another process."""
    ids = IdSet([names(range(0, 1000, 2)), names(range(1000, 1100))])
    expected = np.array([n % 2 == 0 or n >= 1000 for n in range(1100)])
    for subject in (ids, pickle.loads(pickle.dumps(ids))):
        np.testing.assert_array_equal(subject.contains(names(range(1100))), expected)


def test_ids_that_share_their_first_64_bits_are_told_apart():
    """The second half decides, wherever it stands in the order."""
    same = "0123456789abcdef"
    ids = [same + f"{n:016x}" + "0" * 32 for n in range(5)]
    some = IdSet([pa.array([ids[0], ids[2], ids[3]])])
    assert some.contains(pa.array(ids)).tolist() == [True, False, True, True, False]


def test_rows_are_found_by_their_ids():
    """Each id has the row that it was given with, whatever the order; -1 where there is none."""
    assert IdRows([], np.empty(0, np.int64)).rows_of(pa.array(["0" * 64])).tolist() == [-1]
    ids = [hashlib.sha256(bytes([number])).hexdigest() for number in range(100)]
    rows = np.random.default_rng(1).permutation(1000)[:100].astype(np.int64)
    found = IdRows([pa.array(ids[:40]), pa.array(ids[40:])], rows)
    assert len(found) == 100
    asked = [ids[70], "f" * 64, ids[0], ids[99]]
    assert found.rows_of(pa.array(asked)).tolist() == [rows[70], -1, rows[0], rows[99]]
    assert found.rows_of(pa.array([], pa.string())).tolist() == []
