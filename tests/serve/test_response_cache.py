"""The response cache: bounded in bytes, keyed by content, and never shared with a caller."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagelake.serve.response_cache import CachedRows, ResponseCache, row_keys
from imagelake.serve.served import Served
from imagelake.serve.tensor_info import TensorInfo

X = TensorInfo("x", "float32", (-1, -1))


def model(compute):
    return Served("model", (X,), (X,), compute, "fingerprint", max_batch=8)


def strings(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_an_empty_cache_has_nothing():
    """A cache begins empty, and one without room keeps nothing."""
    cache = ResponseCache(0)
    cache.put(b"key", {"y": np.zeros(1)})
    assert (cache.get(b"key"), len(cache), cache.used) == (None, 0, 0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 300)), max_size=60))
def test_the_bound_holds_and_the_least_used_goes_first(steps):
    """After any steps the bytes are within the bound, and what was used last is still there."""
    cache = ResponseCache(5_000)
    for key, size in steps:
        name = bytes([key])
        if cache.get(name) is None:
            cache.put(name, {"y": np.full(size, key, np.float32)})
        assert cache.used <= 5_000
        found = cache.get(name)
        assert found is not None
        assert (found["y"] == key).all()
    assert (cache.used == 0) == (len(cache) == 0)


def test_the_least_recently_used_leaves():
    """Where there is room for two, the one that was looked at last stays."""
    cache = ResponseCache(2_000)
    for key in (b"a", b"b"):
        cache.put(key, {"y": np.zeros(50, np.float64)})
    assert cache.get(b"a") is not None
    cache.put(b"c", {"y": np.zeros(50, np.float64)})
    assert [cache.get(key) is not None for key in (b"a", b"b", b"c")] == [True, False, True]
    cache.put(b"d", {"y": np.zeros(5_000)})
    assert cache.get(b"d") is None
    assert cache.get(b"a") is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (({"x": np.float32([[1]])}, ["y"], "f"), ({"x": np.float32([[1]])}, ["y"], "g")),
        (({"x": np.float32([[1]])}, ["y"], "f"), ({"x": np.float32([[1]])}, ["z"], "f")),
        (({"x": np.float32([[1]])}, ["y"], "f"), ({"z": np.float32([[1]])}, ["y"], "f")),
        (({"x": np.float32([[0]])}, ["y"], "f"), ({"x": np.int32([[0]])}, ["y"], "f")),
        (({"x": np.float32([[0, 0]])}, ["y"], "f"), ({"x": np.float32([[[0], [0]]])}, ["y"], "f")),
        (({"x": strings(b"ab")}, ["y"], "f"), ({"x": strings(b"ab\0")}, ["y"], "f")),
        (
            ({"x": strings(b"ab", b"").reshape(1, 2)}, ["y"], "f"),
            ({"x": strings(b"a", b"b").reshape(1, 2)}, ["y"], "f"),
        ),
    ],
)
def test_another_question_has_another_key(one, other):
    """Model, outputs, names, types, sides and content all count; strings do not run into each other."""
    keys = [row_keys(fingerprint, inputs, outputs) for inputs, outputs, fingerprint in (one, other)]
    assert keys[0] != keys[1]
    assert len(keys[0][0]) == 32


def test_equal_rows_have_equal_keys_wherever_they_stand():
    """A row's key does not depend on its neighbours, its place or the order of memory."""
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    whole = row_keys("f", {"x": x}, ["y"])
    assert [row_keys("f", {"x": x[n : n + 1]}, ["y"])[0] for n in range(3)] == whole
    assert row_keys("f", {"x": np.asfortranarray(x)}, ["y"]) == whole


def test_answers_are_the_callers_own():
    """Whatever a caller does with an answer, the next one is right; so is a cache of strings."""
    words = strings(b"a", b"", b"ccc")

    def compute(inputs, _outputs):
        place = inputs["x"][:, 0].astype(int)
        return {"x": inputs["x"], "word": words[place], "number": place.astype(np.int64)}

    cached = CachedRows(model(compute), 1 << 20, lambda *_: None)
    given_x = np.float32([[0, 5], [1, 6], [2, 7]])
    for _ in range(3):
        answer, _computed = cached.run({"x": given_x.copy()}, ["x", "word", "number"])
        assert answer["x"].tolist() == given_x.tolist()
        assert answer["word"].tolist() == words.tolist()
        assert (answer["word"].dtype, answer["number"].dtype, answer["number"].tolist()) == (
            object,
            np.int64,
            [0, 1, 2],
        )
        answer["x"][:] = -1
        answer["word"][:] = b"gone"
        answer["number"][:] = -1


def test_an_answer_that_does_not_fit_is_not_kept():
    """A model that gives too few rows is asked again the next time."""
    calls = []
    cached = CachedRows(model(lambda i, _o: calls.append(1) or {"x": i["x"][:0]}), 1 << 20, lambda *_: None)
    for _ in range(2):
        assert cached.run({"x": np.zeros((2, 1), np.float32)}, ["x"])[0]["x"].shape == (0, 1)
    assert len(calls) == 2


def test_threads_share_a_cache():
    """Many threads over few rows get right answers, and the counts add up."""
    told, lock = [0, 0], threading.Lock()

    def tell(hits, misses, seconds):
        assert seconds >= 0
        with lock:
            told[0] += hits
            told[1] += misses

    cached = CachedRows(model(lambda i, _o: {"x": i["x"] * 2}), 4_000, tell)
    wrong = []

    def call(seed):
        rng = np.random.default_rng(seed)
        for _ in range(200):
            x = rng.integers(0, 12, (rng.integers(1, 5), 1)).astype(np.float32)
            if (cached.run({"x": x}, ["x"])[0]["x"] != x * 2).any():
                wrong.append(x)
            with lock:
                told.append(len(x))

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert told[0] + told[1] == sum(told[2:])
    assert cached.cache.used <= 4_000
