"""The laws of IdSet: it is a set."""

import hashlib
import pickle

import numpy as np
import pyarrow as pa

from imagelake.lake.ids import IdSet


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
