"""The plane: answers as of the model alone, whatever else is asked, loaded, cancelled or closed meanwhile."""

import concurrent.futures
import contextlib
import functools
import gc
import threading
import time
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagelake.errors import BusyError, ImageError, InputError, ModelError, NotServedError, TimeLimitError
from imagelake.serve.plane import BatchOptions, Plane, TensorInfo
from imagelake.serve.served import Served

WAIT_S = 30
ROWS = TensorInfo("x", "float32", (-1, 2))
TWICE = (TensorInfo("twice", "float32", (-1, 2)), TensorInfo("total", "float64", (-1,)))


def rows(*values):
    return {"x": np.array([[value, value + 1] for value in values], np.float32).reshape(-1, 2)}


def double(inputs, outputs):
    """Each row on its own; a row that holds NaN fails the call."""
    x = inputs["x"]
    if np.isnan(x).any():
        raise ImageError("not a number")
    answer = {"twice": x * 2, "total": x.sum(axis=1, dtype=np.float64)}
    return {name: answer[name] for name in outputs}


def served(compute=double, *, name="model", max_batch=8, **options):
    settled = {"inputs": (ROWS,), "outputs": TWICE, "fingerprint": "f", "max_batch": max_batch} | options
    return Served(name=name, compute=compute, **settled)


class Gate:
    """A model that stops in its first call until it is let go, and tells when it is there."""

    def __init__(self, compute=double):
        self.compute, self.sizes = compute, []
        self.there, self.open = threading.Event(), threading.Event()

    def __call__(self, inputs, outputs):
        self.sizes.append(len(inputs["x"]))
        self.there.set()
        assert self.open.wait(WAIT_S)
        return self.compute(inputs, outputs)


def told_of(plane, outcomes=None, queued=None):
    """The statistics of the model, once they are as wanted: a caller may have its answer before it is counted."""
    until = time.monotonic() + WAIT_S
    while True:
        (told,) = plane.statistics("model")
        if outcomes in (None, told.outcomes) and queued in (None, told.queued):
            return told
        assert time.monotonic() < until, told
        time.sleep(0.001)


@pytest.fixture
def plane():
    with Plane() as opened:
        yield opened


@pytest.fixture
def gate(plane):
    """A model that is busy with one request, so that all others wait."""
    gate = Gate()
    plane.load(served(gate), BatchOptions(instances=1, max_queue=8), warm_up=False)
    gate.first = plane.submit("model", rows(0))
    assert gate.there.wait(WAIT_S)
    yield gate
    gate.open.set()


def test_an_empty_plane_serves_nothing(plane):
    """Whatever is asked of a plane without models is refused by name."""
    assert plane.names() == ()
    assert plane.default is None
    assert plane.statistics() == []
    assert not plane.ready("model")
    assert not plane.has_room("model")
    for ask in (lambda: plane.infer("model", rows(1)), lambda: plane.model("model"), lambda: plane.unload("model")):
        with pytest.raises(NotServedError, match="'model' is not served here"):
            ask()


@settings(deadline=None, max_examples=30)
@given(
    requests=st.lists(st.lists(st.integers(-100, 100), max_size=5), min_size=1, max_size=12),
    options=st.builds(
        BatchOptions,
        instances=st.integers(1, 3),
        max_batch=st.sampled_from([0, 1, 3, 8]),
        max_delay_s=st.sampled_from([0.0, 0.001]),
        preferred=st.sampled_from([(), (2,), (2, 4)]),
        cache_bytes=st.sampled_from([0, 900, 1 << 20]),
    ),
    outputs=st.sampled_from([(), ("total",), ("total", "twice")]),
)
def test_answers_are_those_of_the_model_alone(requests, options, outputs):
    """However requests are put together, each gets what the model gives for its rows alone, and only that."""
    with Plane() as plane:
        plane.load(served(), options)
        futures = [plane.submit("model", rows(*request), outputs, timeout_s=WAIT_S) for request in requests]
        for request, future in zip(requests, futures, strict=True):
            answer = future.result(WAIT_S)
            wanted = double(rows(*request), outputs or ("twice", "total"))
            assert list(answer) == list(wanted)
            for name, array in wanted.items():
                np.testing.assert_array_equal(answer[name], array)
                assert answer[name].dtype == array.dtype


def test_threads_get_their_own_answers(plane):
    """Sixteen callers with requests of many shapes are each answered once, with their own rows."""
    wide = TensorInfo("x", "float32", (-1, -1))
    one = TensorInfo("y", "float32", (-1, -1))
    plane.load(
        Served("model", (wide,), (one,), lambda i, _o: {"y": i["x"] + 1}, "f", max_batch=8), BatchOptions(instances=3)
    )

    def call(seed):
        rng = np.random.default_rng(seed)
        for _ in range(30):
            x = rng.random((rng.integers(1, 12), rng.integers(1, 4)), np.float32)
            np.testing.assert_array_equal(plane.infer("model", {"x": x}, timeout_s=WAIT_S)["y"], x + 1)
        return True

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(pool.map(call, range(16)))
    told = told_of(plane, {"ok": 16 * 30})
    assert (told.success.count, told.fail.count) == (16 * 30, 0)
    assert told.execution_count <= 16 * 30 * 2
    assert max(batch.rows for batch in told.batches) <= 8


def test_what_waits_is_run_together(plane, gate):
    """Requests that came while the model was busy are one run, without any delay."""
    waiting = [plane.submit("model", rows(value)) for value in range(1, 5)]
    gate.open.set()
    for value, future in enumerate(waiting, 1):
        np.testing.assert_array_equal(future.result(WAIT_S)["twice"], 2 * rows(value)["x"])
    assert gate.sizes == [1, 4]


def test_only_alike_requests_are_run_together(plane, gate):
    """Requests that ask for other outputs are another run."""
    waiting = [plane.submit("model", rows(value), ("total",) if value % 2 else ()) for value in range(1, 6)]
    gate.open.set()
    concurrent.futures.wait(waiting, WAIT_S)
    assert sorted(gate.sizes) == [1, 2, 3]


def test_a_batch_takes_a_preferred_size(plane):
    """Where enough wait, a run has the largest preferred size that they fill."""
    gate = Gate()
    plane.load(served(gate), BatchOptions(instances=1, preferred=(2, 4)), warm_up=False)
    futures = [plane.submit("model", rows(0))]
    assert gate.there.wait(WAIT_S)
    futures += [plane.submit("model", rows(value)) for value in range(7)]
    gate.open.set()
    concurrent.futures.wait(futures, WAIT_S)
    assert gate.sizes == [1, 4, 2, 1]


def test_a_delay_lets_a_batch_fill(plane):
    """With a delay the first request waits for others, and goes at once when the batch is full."""
    sizes = []

    def compute(inputs, outputs):
        sizes.append(len(inputs["x"]))
        return double(inputs, outputs)

    plane.load(served(compute, max_batch=3), BatchOptions(instances=2, max_delay_s=600), warm_up=False)
    futures = [plane.submit("model", rows(value)) for value in range(3)]
    assert not concurrent.futures.wait(futures, WAIT_S).not_done
    assert sizes == [3]


def test_one_request_is_passed_without_a_copy(plane):
    """The model gets the very memory of a request that runs alone, also in pieces where it has many rows."""
    seen = []

    def compute(inputs, outputs):
        seen.append(inputs["x"])
        return double(inputs, outputs)

    plane.load(served(compute, max_batch=4), BatchOptions(instances=1), warm_up=False)
    given = rows(*range(10))
    np.testing.assert_array_equal(plane.infer("model", given)["twice"], given["x"] * 2)
    assert [len(x) for x in seen] == [4, 4, 2]
    assert all(np.shares_memory(x, given["x"]) for x in seen)


def test_a_bad_request_spoils_no_neighbour(plane, gate):
    """Of requests that were run together only the one that the model refuses fails, with the model's own words."""
    good, bad, other = (plane.submit("model", rows(value)) for value in (1, np.nan, 2))
    gate.open.set()
    np.testing.assert_array_equal(good.result(WAIT_S)["twice"], 2 * rows(1)["x"])
    np.testing.assert_array_equal(other.result(WAIT_S)["twice"], 2 * rows(2)["x"])
    with pytest.raises(ImageError, match="not a number"):
        bad.result(WAIT_S)
    assert gate.sizes == [1, 3, 1, 1, 1]


@pytest.mark.parametrize("error", [ValueError("defect"), MemoryError(), SystemExit(3)], ids=lambda e: type(e).__name__)
def test_a_defect_of_a_model_ends_its_request_only(plane, error):
    """Whatever a model raises goes to its caller, and the next request is answered."""

    def compute(inputs, outputs):
        if inputs["x"][0, 0] < 0:
            raise error
        return double(inputs, outputs)

    plane.load(served(compute), BatchOptions(instances=1), warm_up=False)
    for _ in range(3):
        with pytest.raises(type(error)):
            plane.submit("model", rows(-1)).result(WAIT_S)
    assert plane.infer("model", rows(1))["total"].tolist() == [3.0]


@pytest.mark.parametrize(
    "answer",
    [{}, {"twice": np.zeros((1, 2), np.float32)}, {"twice": np.float32(1), "total": np.zeros(2)}],
    ids=["nothing", "another", "no rows"],
)
def test_an_answer_that_does_not_fit_is_refused(plane, answer):
    """A model that gives too few outputs or rows is told of, and never cut apart wrong."""
    plane.load(served(lambda _i, _o: answer), warm_up=False)
    with pytest.raises(ModelError, match="it is served wrong"):
        plane.submit("model", rows(1, 2)).result(WAIT_S)


def test_a_full_queue_refuses_at_once(plane, gate):
    """No more than `max_queue` requests wait; one more is refused and none of those that wait is lost."""
    waiting = [plane.submit("model", rows(value)) for value in range(8)]
    assert not plane.has_room("model")
    with pytest.raises(BusyError, match="8 requests wait for model already"):
        plane.submit("model", rows(9))
    told_of(plane, queued=8)
    gate.open.set()
    assert all(future.result(WAIT_S) for future in waiting)
    assert plane.has_room("model")
    told_of(plane, {"ok": 9, "busy": 1})


def test_a_deadline_ends_the_waiting_and_the_run(plane, gate):
    """A request whose time is over fails although the model is busy, and is never run; its place is free."""
    late = plane.submit("model", rows(1), timeout_s=0.01)
    with pytest.raises(TimeLimitError, match="allow more time"):
        late.result(WAIT_S)
    told_of(plane, queued=0)
    running_late = gate.first
    assert not running_late.done()
    gate.open.set()
    assert running_late.result(WAIT_S)
    assert plane.infer("model", rows(2))["total"].tolist() == [5.0]
    assert gate.sizes == [1, 1]


def test_what_nobody_waits_for_is_not_run_to_its_end(plane):
    """Of a request with more rows than a call takes the rest is not computed once its caller has gone."""
    gate = Gate()
    plane.load(served(gate, max_batch=4), BatchOptions(instances=1), warm_up=False)
    for end in (lambda future: future.cancel(), lambda future: future.exception(WAIT_S)):
        gate.there.clear()
        gate.open.clear()
        gate.sizes.clear()
        future = plane.submit("model", rows(*range(400)), timeout_s=0.2)
        assert gate.there.wait(WAIT_S)
        end(future)
        gate.open.set()
        assert plane.infer("model", rows(2))["total"].tolist() == [5.0]
        assert gate.sizes == [4, 1]


def test_a_deadline_ends_the_waiting_for_a_run(plane):
    """A caller whose request is in the model is told in time too, and the answer goes nowhere."""
    gate = Gate()
    plane.load(served(gate), BatchOptions(instances=1), warm_up=False)
    with pytest.raises(TimeLimitError):
        plane.infer("model", rows(1), timeout_s=0.05)
    gate.open.set()
    assert plane.infer("model", rows(2), timeout_s=WAIT_S)["total"].tolist() == [5.0]
    told_of(plane, {"timeout": 1, "ok": 1})


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
def test_no_time_is_no_request(plane, gate, timeout_s):
    """A time limit that leaves no time is refused before anything waits."""
    with pytest.raises(TimeLimitError, match="give a time limit above 0"):
        plane.submit("model", rows(1), timeout_s=timeout_s)
    told_of(plane, queued=0)


@pytest.mark.parametrize("timeout_s", [1e12, 1e300, float("inf")])
def test_all_the_time_is_no_error(plane, gate, timeout_s):
    """A time limit beyond what a clock counts waits as one without, and those of others still hold."""
    patient = plane.submit("model", rows(1), timeout_s=timeout_s)
    with pytest.raises(TimeLimitError):
        plane.submit("model", rows(2), timeout_s=0.01).result(WAIT_S)
    gate.open.set()
    assert patient.result(WAIT_S)["total"].tolist() == [3.0]
    with pytest.raises(TimeLimitError):
        plane.infer("model", rows(1), timeout_s=1e-9)


def test_deadlines_far_away_pile_up_nowhere(plane):
    """Of three thousand answered requests less than two thousand deadlines are remembered."""
    plane.load(served(), BatchOptions(instances=1), warm_up=False)
    for _ in range(3_000):
        plane.infer("model", rows(1), timeout_s=3600)
    assert len(plane._deadlines._entries) < 2_000


def test_deadlines_come_in_their_order(plane, gate):
    """Of many requests with deadlines in any order each fails at its own, and those without stay."""
    limits = [0.05, 0.01, 300, 0.03, None, 0.02]
    futures = [plane.submit("model", rows(value), timeout_s=limit) for value, limit in enumerate(limits)]
    ended = []
    for number, future in enumerate(futures):
        future.add_done_callback(lambda _f, number=number: ended.append(number))
    assert len(concurrent.futures.wait([futures[n] for n in (0, 1, 3, 5)], WAIT_S).done) == 4
    assert ended == [1, 5, 3, 0]
    assert not futures[2].done()
    gate.open.set()
    assert futures[4].result(WAIT_S)
    assert futures[2].result(WAIT_S)


def test_a_cancelled_request_leaves_the_queue(plane, gate):
    """Cancelling frees the place at once, and the request is never run."""
    kept, dropped = plane.submit("model", rows(1)), plane.submit("model", rows(2))
    assert dropped.cancel()
    told_of(plane, queued=1)
    gate.open.set()
    assert kept.result(WAIT_S)
    assert concurrent.futures.wait([dropped], WAIT_S).done
    assert gate.sizes == [1, 1]
    told_of(plane, {"cancelled": 1, "ok": 2})


def test_nothing_holds_what_is_over(plane):
    """Neither deadlines far away nor errors keep requests and their arrays alive."""
    plane.load(served(), BatchOptions(instances=1), warm_up=False)
    future = plane.submit("model", rows(1), timeout_s=3600)
    array = weakref.ref(future.result(WAIT_S)["twice"])
    gone = weakref.ref(future)
    bad = rows(np.nan)
    failed = weakref.ref(bad["x"])
    with pytest.raises(ImageError):
        plane.submit("model", bad, timeout_s=3600).result(WAIT_S)
    plane.infer("model", rows(3))  # the thread has left the one before behind it
    del future, bad
    gc.collect()
    assert gone() is None
    assert array() is None
    assert failed() is None


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ({}, (), "lacks the input x"),
        ({"y": np.zeros((1, 2), np.float32)}, (), "has no input y; its inputs are x"),
        (rows(1) | {"z": np.zeros(1)}, (), "has no input z"),
        (rows(1), ("third",), "has no output third; its outputs are twice, total"),
        ({"x": np.zeros((1, 2))}, (), r"is float64 \[1, 2\]; give float32 \[any, 2\]"),
        ({"x": np.zeros((1, 2), ">f4")}, (), "foreign byte order"),
        ({"x": np.zeros((1, 3), np.float32)}, (), r"is float32 \[1, 3\]; give float32 \[any, 2\]"),
        ({"x": np.zeros(2, np.float32)}, (), r"is float32 \[2\]"),
        ({"x": np.zeros((), np.float32)}, (), r"is float32 \[\]"),
        ({"x": np.array([b"a"], object)}, (), r"is strings \[1\]"),
        ({"x": [[1.0, 2.0]]}, (), "is a list; give a NumPy array"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_waits(plane, gate, inputs, outputs, message):
    """Unknown names, missing inputs, other types and sides are errors that say what was given and what is allowed."""
    with pytest.raises(InputError, match=message):
        plane.submit("model", inputs, outputs)
    told_of(plane, {"bad_input": 1})


def test_inputs_may_be_left_out_and_must_have_equal_rows(plane):
    """An optional input may be missing; inputs that are there have as many rows each."""
    more = TensorInfo("more", "float32", (-1,), optional=True)

    def compute(inputs, outputs):
        return double({"x": inputs["x"] + inputs.get("more", np.float32(0)).reshape(-1, 1)}, outputs)

    plane.load(served(compute, inputs=(ROWS, more)))
    assert plane.infer("model", rows(1), ["total"])["total"].tolist() == [3.0]
    both = rows(1, 2) | {"more": np.array([10, 20], np.float32)}
    assert plane.infer("model", both, ["total"])["total"].tolist() == [23.0, 45.0]
    with pytest.raises(InputError, match=r"differ in their rows \(x 1, more 2\)"):
        plane.submit("model", rows(1) | {"more": np.zeros(2, np.float32)})


def test_strings_are_bytes(plane):
    """An array of strings holds bytes, any bytes, and nothing else."""
    words = TensorInfo("words", "object", (-1,))
    plane.load(Served("model", (words,), (words,), lambda i, _o: dict(i), "f", max_batch=4))
    given = np.array([b"\0a", b"", "é".encode()], object)
    assert plane.infer("model", {"words": given})["words"].tolist() == given.tolist()
    for wrong in (np.array(["a"], object), np.array([None], object), np.array([[b"a"]], object), np.array([b"a"])):
        with pytest.raises(InputError, match="words"):
            plane.submit("model", {"words": wrong})


def test_no_rows_give_no_rows(plane):
    """0 rows are answered without a run where the sides of the answer are known, and refused where they are not."""
    plane.load(served(Gate()), warm_up=False)
    answer = plane.infer("model", rows(), ["total", "twice"])
    assert {name: (array.shape, array.dtype.name) for name, array in answer.items()} == {
        "total": ((0,), "float64"),
        "twice": ((0, 2), "float32"),
    }
    open_sided = TensorInfo("y", "float32", (-1, -1))
    plane.load(Served("open", (ROWS,), (open_sided,), double, "f", max_batch=4))
    with pytest.raises(InputError, match="y has no fixed sides; give 1 row or more"):
        plane.submit("open", rows())


def test_a_model_without_rows_runs_each_request_alone(plane):
    """With `max_batch` 0 no request is put together with another, cut or counted in rows."""
    sizes = []
    pair = TensorInfo("x", "float32", (2, -1))

    def compute(inputs, _outputs):
        sizes.append(inputs["x"].shape)
        return {"y": inputs["x"].sum(keepdims=False)[None]}

    plane.load(Served("model", (pair,), (TensorInfo("y", "float32", (1,)),), compute, "f"), BatchOptions(max_batch=9))
    futures = [plane.submit("model", {"x": np.full((2, n), n, np.float32)}) for n in range(4)]
    assert [future.result(WAIT_S)["y"].item() for future in futures] == [0, 4 / 2, 8, 18]
    assert sorted(sizes) == [(2, 0), (2, 1), (2, 2), (2, 3)]
    with pytest.raises(ModelError, match="has no axis of rows"):
        plane.load(Served("model", (pair,), (pair,), compute, "f", max_batch=2))


def test_reload_under_load_drops_nothing(plane):
    """While models are replaced, every request is answered by one version for all its rows, and the old ones close."""
    closed, stop = [], threading.Event()

    def version(number):
        def compute(inputs, _outputs):
            time.sleep(0.0005)
            return {"version": np.full(len(inputs["x"]), number, np.int64)}

        told = (TensorInfo("version", "int64", (-1,)),)
        return served(compute, outputs=told, version=str(number), max_batch=4, on_close=lambda: closed.append(number))

    def call(seed):
        seen, rng = [], np.random.default_rng(seed)
        while not stop.is_set():
            answer = plane.infer("model", rows(*range(rng.integers(1, 10))), timeout_s=WAIT_S)["version"]
            assert len(set(answer.tolist())) == 1
            seen.append(int(answer[0]))
        assert seen == sorted(seen)  # nobody meets an old version after a new one
        return len(seen)

    plane.load(version(0))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(call, seed) for seed in range(8)]
        for number in range(1, 16):
            plane.load(version(number))
        stop.set()
        assert all(future.result(WAIT_S) for future in calls)
    plane.close()
    assert sorted(closed) == list(range(16))


def test_versions_stand_side_by_side_where_asked(plane):
    """With `beside` the versions of a name stay; the newest answers whoever names none, and each leaves on its own."""
    for version in ("1", "2"):
        plane.load(
            served(lambda _i, o, v=version: {o[0]: np.array([int(v)], np.float64)}, version=version), beside=True
        )
    assert plane.versions("model") == ("1", "2")
    ask = [plane.infer("model", rows(1), ["total"], version=v)["total"].item() for v in (None, "1", "2")]
    assert ask == [2, 1, 2]
    with pytest.raises(NotServedError, match="version '3' of model is not served here; there are 1, 2"):
        plane.model("model", "3")
    plane.unload("model", "2")
    assert plane.model("model").version == "1"
    assert [told.version for told in plane.statistics("model")] == ["1"]
    plane.load(served(version="5"))
    assert plane.versions("model") == ("5",)


def test_a_failed_load_leaves_the_old_one(plane):
    """A model that fails on its examples is closed and never answers; the one before it goes on."""
    closed = []
    plane.load(served(), warm_up=False)
    broken = served(lambda _i, _o: 1 / 0, tried=(rows(1),), on_close=lambda: closed.append(True))
    with pytest.raises(ModelError, match="failed when it was warmed up"):
        plane.load(broken)
    assert closed == [True]
    assert plane.infer("model", rows(1))["total"].tolist() == [3.0]


def test_a_model_without_rows_is_refused_and_closed(plane):
    """Its requests could not be put together; nothing of it stays."""
    closed = []
    fixed = TensorInfo("x", "float32", (1, 2))
    with pytest.raises(ModelError, match="no axis of rows"):
        plane.load(served(inputs=(fixed,), on_close=lambda: closed.append(1)))
    assert (plane.names(), closed) == ((), [1])


def test_a_model_is_warm_before_it_is_ready(plane):
    """The examples are run, as one row and as a whole batch, before the name is known."""
    seen = []

    def compute(inputs, outputs):
        seen.append((len(inputs["x"]), plane.ready("model")))
        return double(inputs, outputs)

    plane.load(served(compute, tried=(rows(1),)))
    assert seen == [(1, False), (8, False)]
    assert plane.ready("model")


def test_unload_answers_what_it_took(plane, gate):
    """A model that is unloaded takes no more, answers what waits, and closes after that."""
    waiting = plane.submit("model", rows(1))
    plane.unload("model")
    assert not plane.ready("model")
    with pytest.raises(NotServedError):
        plane.submit("model", rows(2))
    gate.open.set()
    assert waiting.result(WAIT_S)["total"].tolist() == [3.0]


def test_what_left_is_freed(plane):
    """A model that was unloaded, or replaced, takes no memory once it has answered."""
    left = []
    for leave in (lambda: plane.unload("model"), lambda: plane.load(served())):
        model = served(functools.partial(double))
        left.append(weakref.ref(model.compute))
        plane.load(model, BatchOptions(instances=2, cache_bytes=1 << 20))
        assert plane.infer("model", rows(1), timeout_s=WAIT_S)
        del model
        leave()
    until = time.monotonic() + WAIT_S
    while any(each() is not None for each in left):
        gc.collect()
        assert time.monotonic() < until


def test_models_without_options_have_those_of_the_plane():
    """Whoever loads a model by its name gets the queue and the cache that the operator chose."""
    with Plane(options=BatchOptions(instances=1, cache_bytes=1 << 20)) as plane:
        plane.load(served())
        for _ in range(2):
            plane.infer("model", rows(1))
        assert plane.statistics("model")[0].cache_hit.count == 1


def test_the_default_is_the_first_until_another_is_set(plane):
    """The first model answers whoever names none; when it goes the next takes its place."""
    for name in ("one", "two", "three"):
        plane.load(served(name=name))
    assert (plane.default, plane.names()) == ("one", ("one", "two", "three"))
    plane.default = "three"
    plane.unload("three")
    assert plane.default == "one"
    with pytest.raises(NotServedError):
        plane.default = "three"


def test_drain_answers_all_that_was_taken(plane, gate):
    """Draining refuses what comes, and returns when everything taken is answered; before that it says so."""
    waiting = [plane.submit("model", rows(value)) for value in range(5)]
    with pytest.raises(TimeLimitError, match="still under way"):
        plane.drain(0)
    with pytest.raises(BusyError, match="closing"):
        plane.submit("model", rows(6))
    gate.open.set()
    plane.drain(WAIT_S)
    assert all(future.done() and not future.exception() for future in [gate.first, *waiting])


def test_close_ends_every_thread_and_caller():
    """After closing no thread is left, what waited has an error, what ran has its answer, and the model is closed."""
    before, closed = set(threading.enumerate()), []
    plane, gate = Plane(), Gate()
    plane.load(served(gate, on_close=lambda: closed.append(1)), BatchOptions(instances=1), warm_up=False)
    running = plane.submit("model", rows(1), timeout_s=WAIT_S)
    assert gate.there.wait(WAIT_S)
    waiting = plane.submit("model", rows(2), timeout_s=WAIT_S)
    threading.Timer(0.02, gate.open.set).start()
    plane.close()
    assert running.result(0)["total"].tolist() == [3.0]
    with pytest.raises(BusyError, match="closing"):
        waiting.result(0)
    assert closed == [1]
    assert {thread for thread in threading.enumerate() if thread.name.startswith("imagelake")} <= before
    with pytest.raises(BusyError, match="closing"):  # and not that it is not served: another server may have it
        plane.submit("model", rows(1))
    assert not plane.ready("model")
    assert not plane.has_room("model")
    with pytest.raises(BusyError):
        plane.load(served())
    plane.close()


def test_the_cache_computes_only_what_it_lacks(plane):
    """A row that was answered is not computed again, in whatever request it comes; answers are the same."""
    computed = []

    def compute(inputs, outputs):
        computed.extend(inputs["x"][:, 0].tolist())
        return double(inputs, outputs)

    plane.load(served(compute), BatchOptions(instances=1, cache_bytes=1 << 20), warm_up=False)
    for values in ([1, 2], [2, 3], [3, 3, 1, 4], [4], [2, 2]):
        answer = plane.infer("model", rows(*values))
        np.testing.assert_array_equal(answer["twice"], rows(*values)["x"] * 2)
        answer["twice"][:] = -1  # the caller's own
    assert computed == [1, 2, 3, 4]
    (told,) = plane.statistics()
    assert (told.cache_hit.count, told.cache_miss.count) == (7, 4)
    assert (told.inference_count, told.execution_count) == (4, 5)
    assert plane.infer("model", rows(4), ["total"])["total"].tolist() == [9.0]
    assert computed[-1] == 4  # other outputs are another question


def test_the_observer_hears_of_everything():
    """Each request ends once, each run is told with its rows, and the last depth is the true one."""
    ended, batches, depths = [], [], []

    class Ear:
        def finished(self, model, version, protocol, outcome, seconds):
            assert seconds >= 0
            ended.append((model, version, protocol, outcome))

        def batch(self, model, rows, queue_s, compute_s):
            assert compute_s >= 0
            batches.append((model, rows, len(queue_s)))

        def depth(self, model, requests):
            depths.append((model, requests))

    gate = Gate()
    with Plane(Ear()) as plane:
        plane.load(served(gate, version="7"), BatchOptions(instances=1, max_queue=3), warm_up=False)
        first = plane.submit("model", rows(1, 1), protocol="first")
        assert gate.there.wait(WAIT_S)
        late = plane.submit("model", rows(1), timeout_s=0.01, protocol="late")
        concurrent.futures.wait([late], WAIT_S)
        plane.submit("model", rows(1), protocol="gone").cancel()
        waiting = [plane.submit("model", rows(value), protocol="batch") for value in (1, 2, np.nan)]
        with pytest.raises(BusyError):
            plane.submit("model", rows(1), protocol="more")
        with pytest.raises(InputError):
            plane.submit("model", {}, protocol="bad")
        gate.open.set()
        concurrent.futures.wait([first, *waiting], WAIT_S)
    assert sorted(each[2:] for each in ended) == sorted(
        [
            *[("first", "ok"), ("late", "timeout"), ("gone", "cancelled"), ("more", "busy"), ("bad", "bad_input")],
            *[("batch", "ok"), ("batch", "ok"), ("batch", "failed")],
        ]
    )
    assert {each[:2] for each in ended} == {("model", "7")}
    assert batches == [("model", 2, 1), ("model", 1, 1), ("model", 1, 1)]
    assert depths[-1] == ("model", 0)


@pytest.mark.parametrize("seed", range(3))
def test_in_any_disorder_each_request_ends_once_and_right(seed):
    """With cancels, deadlines, bad rows, full queues and reloads at once, what is answered is right and told."""
    ended, submitted, lock = [], [], threading.Lock()

    class Ear:
        def finished(self, _model, _version, protocol, outcome, _seconds):
            with lock:
                ended.append((protocol, outcome))

        def batch(self, _model, rows, _queue_s, _compute_s):
            assert 1 <= rows <= 4

        def depth(self, _model, requests):
            assert 0 <= requests <= 6

    def compute(inputs, outputs):
        time.sleep(0.0003)
        return double(inputs, outputs)

    def ask(plane, rng, number):
        values = rng.integers(0, 50, rng.integers(0, 7)).astype(float)
        if rng.random() < 0.1 and values.size:
            values[0] = np.nan
        limit = [None, 0.0005, 0.002, WAIT_S][rng.integers(4)]
        submitted.append(number)
        future = plane.submit("model", rows(*values), timeout_s=limit, protocol=number)
        if rng.random() < 0.15:
            future.cancel()
        answer = future.result(WAIT_S)
        np.testing.assert_array_equal(answer["twice"], rows(*values)["x"] * 2)

    def call(plane, thread):
        rng = np.random.default_rng([seed, thread])
        allowed = (ImageError, BusyError, TimeLimitError, concurrent.futures.CancelledError)
        for number in range(60):
            with contextlib.suppress(*allowed):
                ask(plane, rng, (thread, number))

    options = BatchOptions(instances=2, max_batch=4, max_queue=6, cache_bytes=[0, 2_000, 1 << 20][seed])
    with Plane(Ear()) as plane:
        plane.load(served(compute), options)
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            calls = [pool.submit(call, plane, thread) for thread in range(12)]
            for version in range(6):
                plane.load(served(compute, version=str(version)), options)
                time.sleep(0.005)
            for future in calls:
                future.result(WAIT_S)
    assert sorted(protocol for protocol, _ in ended) == sorted(submitted)
    assert {"ok", "failed", "timeout", "cancelled"} <= {outcome for _, outcome in ended}


@pytest.mark.parametrize(
    "wrong",
    [{"instances": 0}, {"max_queue": 0}, {"max_batch": -1}, {"preferred": (0,)}, {"cache_bytes": -1}]
    + [{"max_delay_s": value} for value in (-1, float("nan"), float("inf"))],
)
def test_wrong_options_are_refused(wrong):
    """Options that cannot be meant are errors when they are made."""
    with pytest.raises(InputError):
        BatchOptions(**wrong)
