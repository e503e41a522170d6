from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from imagelake.errors import ImagelakeError, InputError, ModelError
from imagelake.models import embedder as embedder_module
from imagelake.models import graph_cache, zoo
from imagelake.models.efficientnet_lite0.agreement import probe_pictures
from imagelake.models.embedder import Embedder, normalize, open_embedder, settle, settle_default
from imagelake.models.onnx_runtime import open_session
from imagelake.models.torch_checkpoint import read_checkpoint

SIZE = 96


def model(**changes):
    return zoo.manifest("efficientnet-lite0", **({"precision": "fp32", "input_size": SIZE, "pooling": "avg"} | changes))


@pytest.fixture(scope="module", params=["fp32", "int8"])
def opened(request, model_cache):
    return open_embedder(model(precision=request.param), cache_dir=model_cache)


def test_no_pictures_give_no_vectors(opened):
    """An empty batch has an empty answer of the right width."""
    assert opened.embed(np.empty((0, SIZE, SIZE, 3), np.uint8)).shape == (0, 1280)


def test_cosine_vectors_have_length_one(opened):
    """Each row of float32 [n, dimensions] has length 1."""
    vectors = opened.embed(probe_pictures((SIZE, SIZE), 3))
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_splitting_a_batch_changes_nothing(opened):
    """A picture has one vector, whatever stands beside it, to 1e-5."""
    pictures = probe_pictures((SIZE, SIZE), 37)
    whole = opened.embed(pictures)
    parts = np.concatenate([opened.embed(p) for p in (pictures[:1], pictures[1:6], pictures[6:])])
    np.testing.assert_allclose(whole, parts, atol=1e-5)


def test_a_run_can_be_repeated(opened, model_cache):
    """The same batch gives the same bits, in this session and in another; other threads change it by 1e-5 at most."""
    pictures = probe_pictures((SIZE, SIZE), 7)
    expected = opened.embed(pictures)
    other = open_embedder(opened.manifest, cache_dir=model_cache)
    for again in (opened, opened, other):
        np.testing.assert_array_equal(again.embed(pictures), expected)
    two_threads = open_embedder(opened.manifest, threads=2, cache_dir=model_cache)
    np.testing.assert_allclose(two_threads.embed(pictures), expected, atol=1e-5)


def test_threads_may_share_an_embedder(opened):
    """Calls from many threads at once give what one thread gives."""
    pictures = probe_pictures((SIZE, SIZE), 12)
    expected = opened.embed(pictures)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda i: opened.embed(pictures[i : i + 2]), [*range(0, 12, 2)] * 4))
    np.testing.assert_allclose(np.concatenate(found), np.concatenate([expected] * 4), atol=1e-5)


@pytest.mark.parametrize(("pooling", "dimensions"), [("avg", 1280), ("max", 1280), ("none", 1280 * 9)])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_every_pooling_and_metric(model_cache, pooling, metric, dimensions):
    """Vectors have the promised length, and cosine is the l2 vector brought to length 1."""
    manifest = model(pooling=pooling, metric=metric)
    assert manifest.dimensions == dimensions
    pictures = probe_pictures((SIZE, SIZE), 2)
    vectors = open_embedder(manifest, cache_dir=model_cache).embed(pictures)
    assert vectors.shape == (2, dimensions)
    plain = open_embedder(dataclasses.replace(manifest, metric="l2"), cache_dir=model_cache).embed(pictures)
    if metric == "cosine":
        normalize(plain)
    np.testing.assert_array_equal(vectors, plain)


def test_similar_pictures_are_near(opened, photos):
    """A mirrored cat is nearer to the cat than coffee is."""
    cat, coffee = (opened.prepare(photos[name][0]) for name in ("chelsea", "coffee"))
    a, b, c = opened.embed(np.stack([cat, cat[:, ::-1], coffee]))
    assert a @ b > 0.7
    assert a @ b > a @ c + 0.2


def test_zero_vectors_stay_zero():
    """Nothing is divided by zero."""
    vectors = np.array([[0, 0], [3, 4]], np.float32)
    normalize(vectors)
    np.testing.assert_allclose(vectors, [[0, 0], [0.6, 0.8]])


@pytest.mark.parametrize(
    "pictures",
    [
        np.zeros((1, SIZE, SIZE + 1, 3), np.uint8),
        np.zeros((1, SIZE, SIZE, 3), np.float32),
        np.zeros((SIZE, SIZE, 3), np.uint8),
        np.zeros((1, SIZE, SIZE, 4), np.uint8),
    ],
)
def test_pictures_that_do_not_fit_are_refused(opened, pictures):
    """The message says what came and what fits, from the embedder and from the runtime."""
    with pytest.raises(ModelError, match="give uint8"):
        opened.embed(pictures)
    with pytest.raises(ModelError, match="give uint8"):
        opened.runtime.run(opened.runtime.outputs, pictures)


def test_the_runtime_knows_its_outputs(opened):
    """Asking for another output, or for none, is a ModelError."""
    for outputs in ([], ["logits"]):
        with pytest.raises(ModelError, match="features_avg"):
            opened.runtime.run(outputs, probe_pictures((SIZE, SIZE), 1))


@pytest.mark.parametrize("how", ["squash", "crop", "letterbox"])
def test_prepared_pictures_fit(model_cache, how):
    """`prepare` gives what `embed` takes, in width and height, from any picture."""
    manifest = zoo.manifest("efficientnet-lite0", precision="fp32", input_size=(64, 96), resize=how)
    opened = open_embedder(manifest, cache_dir=model_cache)
    for height, width in ((1, 1), (1, 500), (500, 1), (37, 91), (96, 64), (1000, 700)):
        prepared = opened.prepare(np.full((height, width, 3), 7, np.uint8))
        assert prepared.shape == (96, 64, 3)
        assert (prepared == 7).any()
    with pytest.raises(InputError):
        opened.prepare(np.zeros((0, 5, 3), np.uint8))


def test_a_graph_is_built_once(tmp_path):
    """The second opening reads the cache, says nothing, and gives the same vectors."""
    told: list[str] = []
    first = open_embedder(model(), cache_dir=tmp_path, on_progress=told.append)
    assert len(told) == 1
    assert len(list(tmp_path.iterdir())) == 1
    second = open_embedder(model(), cache_dir=tmp_path, on_progress=told.append)
    assert len(told) == 1
    pictures = probe_pictures((SIZE, SIZE), 2)
    np.testing.assert_array_equal(first.embed(pictures), second.embed(pictures))


@pytest.mark.parametrize(
    "damage", [lambda _: b"", lambda b: b[: len(b) // 2], lambda b: b[:-1] + b"x", lambda b: b + b"x"]
)
def test_a_damaged_cache_file_is_built_again(tmp_path, damage):
    """Half-written and altered files are noticed, and replaced by the right one."""
    right = graph_cache.load_graph(model(), ("features_avg",), tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(right))
    assert graph_cache.load_graph(model(), ("features_avg",), tmp_path) == right
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [right]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    """A read-only home costs time, not the answer."""
    (tmp_path / "file").write_text("in the way")
    told: list[str] = []
    assert graph_cache.load_graph(model(), ("features_avg",), tmp_path / "file", told.append)
    assert "cannot keep" in told[-1]


@pytest.mark.parametrize(
    "change",
    [{"precision": "int8"}, {"input_size_wh": (96, 64)}, {"std_rgb": (1.0, 1.0, 1.0)}, {"graph_version": 2}],
)
def test_cache_keys_differ_where_graphs_differ(change):
    """What shapes the file is in its key; pooling and resize are not."""
    key = graph_cache.cache_key(model(), ("logits",))
    assert graph_cache.cache_key(dataclasses.replace(model(), **change), ("logits",)) != key
    assert graph_cache.cache_key(model(), ("features_avg",)) != key
    assert graph_cache.cache_key(model(resize="letterbox", pooling="max"), ("logits",)) == key


@pytest.mark.parametrize("change", [{"architecture": "vgg"}, {"graph_version": 999}])
def test_a_graph_that_nobody_can_build(tmp_path, change):
    """An unknown builder or version is a ModelError, not a graph of something else."""
    with pytest.raises(ModelError, match=str(next(iter(change.values())))):
        open_embedder(dataclasses.replace(model(), **change), cache_dir=tmp_path)


def test_weights_with_another_hash_are_refused(tmp_path):
    """The hash of the manifest decides."""
    with pytest.raises(ModelError, match="SHA-256"):
        open_embedder(dataclasses.replace(model(), weights_sha256="0" * 64), cache_dir=tmp_path)


def test_auto_goes_on_in_fp32(monkeypatch, model_cache):
    """Where int8 answers wrong, `auto` says so and opens fp32; asking for int8 raises."""
    monkeypatch.setattr(zoo, "has_int8_dot_products", lambda: True)

    def refuse(manifest, *_rest):
        if manifest.precision == "int8":
            raise ModelError("int8 disagrees")
        return b"graph"

    monkeypatch.setattr(embedder_module, "load_graph", refuse)
    monkeypatch.setattr("imagelake.models.onnx_runtime.open_session", lambda *_: None)
    told: list[str] = []
    assert settle_default(told.append).precision == "fp32"
    assert "int8 disagrees" in told[0]
    small = zoo.manifest("efficientnet-lite0", input_size=96)
    assert small.precision == "int8"
    assert settle(small) == zoo.manifest("efficientnet-lite0", input_size=96, precision="fp32")
    with pytest.raises(ModelError, match="int8 disagrees"):
        open_embedder(zoo.default_manifest("int8"))


def test_a_file_that_is_no_model(tmp_path):
    """Bytes, files and absent files that are no ONNX model are a ModelError."""
    (tmp_path / "bad.onnx").write_bytes(b"not onnx")
    for given in (b"", b"not onnx", tmp_path / "bad.onnx", tmp_path / "absent.onnx"):
        with pytest.raises(ModelError):
            open_session(given)


def test_threads_are_counted_from_one(model_cache):
    """Zero threads is no way to run."""
    with pytest.raises(ModelError, match="0 threads"):
        open_embedder(model(), threads=0, cache_dir=model_cache)


def test_every_error_is_in_the_tree():
    """Whoever catches ImagelakeError catches what a user can mend."""
    assert issubclass(ModelError, ImagelakeError)
    assert isinstance(Embedder(model(), None).manifest.dimensions, int)
    assert callable(read_checkpoint)
