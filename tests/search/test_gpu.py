"""The arithmetic of the search on a GPU, on CPU tensors. What only a GPU can show, `TorchScan.audit` checks there."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from imagelake.errors import MissingExtraError, SearchError
from imagelake.search import gpu
from imagelake.search.index import ExactIndex
from imagelake.search.scan import Scan

METRICS = ["l2", "cosine", "dot"]


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def encode_everything(monkeypatch):
    """So that small indexes have segments too."""
    monkeypatch.setattr("imagelake.search.rows._SMALL", 8)


def data(name, n, d, rng):  # noqa: C901 - a table of cases
    x = rng.standard_normal((n, d)).astype(np.float32)
    if name == "clusters":
        return (x * 0.01 + rng.standard_normal((5, d))[rng.integers(0, 5, n)]).astype(np.float32)
    if name == "duplicates":
        return x[rng.integers(0, max(1, n // 4), n)]
    if name == "near duplicates":
        return (x[:1] + x * np.float32(1e-6)).astype(np.float32)
    if name == "zeros":
        return x * (rng.random((n, 1)) < 0.5).astype(np.float32)
    if name == "outlier":
        x[n // 2] = 1e6
        return x
    if name == "huge norms":
        return x * np.float32(1e18)
    if name == "subnormal":
        return x * np.float32(1e-40)
    if name == "mixed norms":
        return (x * (10.0 ** rng.uniform(-20, 15, (n, 1)))).astype(np.float32)
    if name == "integers":
        return rng.integers(0, 2, (n, d)).astype(np.float32)
    if name == "far from zero":
        return x + np.float32(1e4)
    if name == "float64":
        return rng.standard_normal((n, d))
    if name == "float64, far ends":
        return rng.standard_normal((n, d)) * (10.0 ** rng.choice([-170, -160, 140, 149], (n, 1)))
    return x


NAMES = [
    "random", "clusters", "duplicates", "near duplicates", "zeros", "outlier", "huge norms", "subnormal",
    "mixed norms", "integers", "far from zero", "float64", "float64, far ends",
]  # fmt: skip


def asked(name, x, rng):
    other = data(name, 4, x.shape[1], rng)
    return np.concatenate([x[:3], x[len(x) // 2 : len(x) // 2 + 1], other, 0 * other[:1], other[:1] * 1000])


def made(x, metric, device="cpu", **memory):
    index = ExactIndex(x, metric=metric, threads=1)
    segments = index._rows.view().segments
    return index, segments, gpu.GpuRows(index.encoder, segments, device=device, **memory)


def same(ours, theirs):
    assert np.array_equal(ours.distance.view(np.int64), theirs.distance.view(np.int64))
    assert np.array_equal(ours.rank, theirs.rank)


def in_order(found):
    order = np.lexsort((found.rank, found.query))
    return found.query[order], found.rank[order], found.distance[order].view(np.int64)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(300, 70), (130, 5), (40, 1)], ids=str)
def test_answers_are_those_of_the_cpu(torch, name, metric, shape):
    """Distances to the bit, ranks, certificate and range: as `Scan` has them, whatever the data."""
    rng = np.random.default_rng(1)
    x = data(name, *shape, rng)
    queries = asked(name, x, rng)
    index, segments, rows = made(x, metric)
    scan = gpu.TorchScan(rows, segments, queries)
    cpu = Scan(index.encoder, segments, queries, 1)
    scan.audit()
    for k in (1, 6, shape[0] + 3):
        ours = scan.nearest(k, prove=True)
        same(ours, cpu.nearest(k))
        assert ours.proven.all()
    radius = float(np.median(ours.distance[np.isfinite(ours.distance)]))
    for limit in (radius, -np.inf, np.inf):
        for a, b in zip(in_order(scan.within(limit)), in_order(cpu.within(limit)), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("metric", METRICS)
def test_the_certificate_is_true(torch, metric):
    """Nobody who was not measured is nearer than the certificate says, and it lies beyond the answer."""
    rng = np.random.default_rng(2)
    x, queries = data("random", 600, 40, rng), data("random", 20, 40, rng)
    _, segments, rows = made(x, metric)
    scan = gpu.TorchScan(rows, segments, queries)
    ours, everything = scan.nearest(3, prove=True), scan.nearest(600)
    assert ours.proven.all()
    assert ours.measured == 20 * 8  # so one of the nine nearest was not
    assert (ours.bound <= everything.distance[:, 8]).all()
    assert (ours.bound > ours.distance[:, -1]).all()
    assert scan.nearest(3).bound is None


@pytest.mark.parametrize("metric", METRICS)
def test_open_queries_are_closed_in_a_second_round(torch, metric):
    """Where many rows are as near as float16 can tell, all that may be nearer are measured."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((5, 40))[rng.integers(0, 5, 500)] + 1e-5 * rng.standard_normal((500, 40))
    queries = x[:6] + 1e-5
    index, segments, rows = made(x, metric)
    scan = gpu.TorchScan(rows, segments, queries)
    ours = scan.nearest(3, prove=True)
    assert ours.proven.all()
    assert ours.measured > len(queries) * 8
    same(ours, Scan(index.encoder, segments, queries, 1).nearest(3))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_that_do_not_fit_are_streamed(torch, metric, dtype):
    """With a few kilobytes of memory, tiles are small and come from the host; answers stay as they are."""
    rng = np.random.default_rng(3)
    x = data("clusters", 700, 24, rng).astype(dtype)
    queries = data("clusters", 40, 24, rng)
    index, segments, rows = made(x, metric, memory_bytes=40_000)
    assert 0 < rows.streamed < 700
    assert rows.gathered == 700
    assert len(rows.tiles) > 3
    scan = gpu.TorchScan(rows, segments, queries)
    assert len(scan._blocks) > 1
    cpu = Scan(index.encoder, segments, queries, 1)
    for k in (1, 9, 400):
        same(scan.nearest(k), cpu.nearest(k))
    for a, b in zip(in_order(scan.within(1.0)), in_order(cpu.within(1.0)), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("metric", METRICS)
def test_removed_and_added_rows(torch, metric):
    """What was removed is not found; what was added is sent, the rest stays where it is."""
    rng = np.random.default_rng(4)
    x, more, queries = (data("duplicates", n, 33, rng) for n in (200, 90, 12))
    index, segments, rows = made(x, metric)
    tiles = list(rows.tiles)
    index.add(more * 3)
    index.remove(np.arange(50, 270, 3))
    segments = index._rows.view().segments
    with pytest.raises(SearchError, match="add them first"):
        gpu.TorchScan(rows, segments, queries)
    rows.add(segments)
    assert rows.tiles[: len(tiles)] == tiles
    scan, cpu = gpu.TorchScan(rows, segments, queries), Scan(index.encoder, segments, queries, 1)
    scan.audit()
    for k in (1, 5, 200):
        same(scan.nearest(k), cpu.nearest(k))
    nobody = [(dataclasses.replace(segment, rank=np.full_like(segment.rank, -1)), c) for segment, c in segments]
    empty = gpu.TorchScan(rows, nobody, queries)
    assert (empty.nearest(2, prove=True).rank == -1).all()
    assert not len(empty.within(np.inf).rank)
    nothing = gpu.TorchScan(rows, segments, queries[:0])
    assert nothing.nearest(2).rank.shape == (0, 2)
    assert not len(nothing.within(1.0).query)


def test_read_only_vectors_are_searched_too(torch):
    """Vectors that lie in a file that is mapped are not to be written to; torch would warn."""
    x = data("random", 50, 8, np.random.default_rng(9))
    x.setflags(write=False)
    index, segments, rows = made(x, "cosine")
    same(gpu.TorchScan(rows, segments, x).nearest(2), Scan(index.encoder, segments, x, 1).nearest(2))


def test_vectors_can_be_too_long(torch, monkeypatch):
    """Beyond some length, the error of summing would be as large as what is summed."""
    monkeypatch.setattr(gpu, "_MOST_DIMS", 4)
    with pytest.raises(SearchError, match="20 dimensions"):
        made(np.eye(20), "l2")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_keeps_to_what_is_assumed(torch, name, metric):
    """Where there is CUDA: bounds are bounds, and distances are those of the CPU to the bit."""
    if gpu.choose_device("auto") == "cpu":
        pytest.skip("no CUDA here")
    rng = np.random.default_rng(10)
    x = data(name, 3000, 515, rng)
    queries = asked(name, x, rng)
    for memory in ({}, {"memory_bytes": 20_000_000}):
        index, segments, rows = made(x, metric, "cuda", **memory)
        scan = gpu.TorchScan(rows, segments, queries)
        scan.audit()
        same(scan.nearest(5), Scan(index.encoder, segments, queries, 1).nearest(5))


def test_many_columns_are_looked_at_in_groups(torch):
    """The greatest of groups hold the greatest of all, ties and a rest that fills no group among them."""
    rng = np.random.default_rng(5)
    for columns in (1, 63, 64, 640, 1000, 1281):
        bounds = torch.from_numpy(rng.integers(0, 50, (7, columns)).astype(np.float32))
        for wanted in (1, 2, 5):
            values, at = gpu._greatest(torch, bounds, wanted)
            expected = bounds.topk(min(wanted, columns), dim=1).values
            assert torch.equal(values, expected)
            assert torch.equal(bounds.gather(1, at), expected)
            assert all(len(set(row)) == len(row) for row in at.tolist())


def cut_off(torch, queries, rows):
    """What the first tensor cores do: four products and the sum are shifted to the largest and cut off at 24 bits."""
    q, x = queries.double().numpy(), rows.double().numpy()
    total = np.zeros((len(q), len(x)))
    for start in range(0, q.shape[1], 4):
        terms = q[:, None, start : start + 4] * x[None, :, start : start + 4]
        terms = np.concatenate([terms, total[..., None]], axis=2)
        largest = np.abs(terms).max(axis=2, keepdims=True)
        last = np.ldexp(1.0, np.frexp(largest)[1] - 24)
        total = (np.trunc(terms / last) * last).sum(axis=2)
        last = np.ldexp(1.0, np.frexp(total)[1] - 24)
        total = np.trunc(total / last) * last
    return torch.from_numpy(total).float()


@pytest.mark.parametrize("metric", METRICS)
def test_bounds_hold_with_sums_that_are_cut_off(torch, metric, monkeypatch):
    """A model of a tensor core without spare bits keeps every bound and every answer."""
    monkeypatch.setattr(gpu, "_products", cut_off)
    rng = np.random.default_rng(6)
    x = np.abs(data("random", 60, 300, rng))
    index, segments, rows = made(x, metric)
    scan = gpu.TorchScan(rows, segments, x[:9])
    scan.audit()
    same(scan.nearest(4), Scan(index.encoder, segments, x[:9], 1).nearest(4))


def test_an_audit_finds_a_violated_bound(torch, monkeypatch):
    """Bounds that leave out what coarse numbers lose are found out."""
    x = data("clusters", 200, 64, np.random.default_rng(7))

    def coarse(wide, norm, lost, rows):
        out = honest(torch.round(wide * 8) / 8, norm, 0 * lost, rows)
        out[:, wide.shape[1] + 2] = 0
        return out

    honest = gpu._encode_rows
    monkeypatch.setattr(gpu, "_encode_rows", coarse)
    _, segments, rows = made(x, "l2")
    with pytest.raises(SearchError, match="bound is violated"):
        gpu.TorchScan(rows, segments, x[:20]).audit()


def test_an_audit_finds_another_order_of_sums(torch, monkeypatch):
    """Distances that are not the CPU's to the bit are found out."""
    x = data("random", 50, 64, np.random.default_rng(8))
    _, segments, rows = made(x, "l2")
    monkeypatch.setattr(gpu, "_sum", lambda terms: terms.sum(-1))
    with pytest.raises(SearchError, match="not that of the CPU"):
        gpu.TorchScan(rows, segments, x[:20]).audit()


def test_devices_are_chosen_by_name(torch, monkeypatch):
    """CUDA where it is; a word that says what is missing where it is not."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.choose_device("auto") == "cpu"
    assert gpu.choose_device("cpu") == "cpu"
    with pytest.raises(SearchError, match="finds 0 CUDA devices"):
        gpu.choose_device("cuda")
    for wrong in ("gpu", "cuda:", "cuda:x", "mps"):
        with pytest.raises(SearchError, match="is not known"):
            gpu.choose_device(wrong)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert gpu.choose_device("auto") == "cuda"
    assert gpu.choose_device("cuda:1") == "cuda:1"
    with pytest.raises(SearchError, match="finds 2"):
        gpu.choose_device("cuda:2")


def test_without_torch(monkeypatch):
    """CUDA asks for the extra, auto does without."""
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert gpu.choose_device("auto") == "cpu"
    with pytest.raises(MissingExtraError, match=r"imagelake\[gpu\]"):
        gpu.choose_device("cuda")


def test_settings_of_torch_are_put_back(torch):
    """What is set for the products is as it was afterwards."""
    settings = torch.backends.cuda.matmul
    before = settings.allow_fp16_reduced_precision_reduction
    with gpu._summed_in_float32(torch):
        assert settings.allow_fp16_reduced_precision_reduction is False
    assert settings.allow_fp16_reduced_precision_reduction == before


def test_importing_does_not_load_torch():
    """Whoever has no use for it does not wait for it."""
    code = "import sys, imagelake.search.gpu; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
