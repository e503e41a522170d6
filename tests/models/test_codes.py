"""Learning binary codes, and the laws of coders."""

import dataclasses

import numpy as np
import pytest

from imagelake.errors import ModelError
from imagelake.models import codes_bihalf, codes_deepbit, codes_itq, codes_neighbors
from imagelake.models.code_learning import METHODS, learn_code
from imagelake.models.coder import Coder, make_coder, open_coder, register_coder
from imagelake.models.codes_deepbit import ANGLES, Turned
from imagelake.models.codes_pca import principal_components, random_rotation
from imagelake.models.file_manifest import file_fingerprint
from imagelake.models.learned_code import LearnedCode, linear_code
from imagelake.models.registry import Registry

SIZE = 40
GROUPS = 6


def clusters(rows=600, seed=0):
    """Unit vectors about some centers, and which."""
    random = np.random.default_rng(seed)
    centers = np.random.default_rng(99).standard_normal((GROUPS, SIZE))
    groups = random.integers(0, GROUPS, rows)
    vectors = centers[groups] + 0.9 * random.standard_normal((rows, SIZE))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), groups


def turned(vectors):
    noise = 0.02 * np.random.default_rng(5).standard_normal((len(ANGLES), *vectors.shape))
    return Turned((vectors + noise).astype(np.float32))


def learn(method, bits=16, rows=600, seed=0):
    vectors, _ = clusters(rows)
    return learn_code(vectors, bits, method, seed=seed, turned=turned(vectors[:50]))


def unpacked(codes):
    return np.unpackbits(codes, axis=1).astype(np.int32)


@pytest.fixture(scope="module", params=METHODS)
def coder(request) -> Coder:
    return make_coder(learn(request.param), "embeddings")


def test_nothing_gives_nothing(coder):
    """No vectors, no codes, of the right width."""
    codes = coder.encode(np.empty((0, SIZE), np.float32))
    assert codes.shape == (0, 2)
    assert codes.dtype == np.uint8


def test_a_code_does_not_depend_on_the_batch(coder):
    """One at a time, in parts of any size, in another order: the same codes."""
    vectors, _ = clusters(300, seed=3)
    whole = coder.encode(vectors)
    for size in (1, 7, 64, 65, 299):
        parts = [coder.encode(vectors[start : start + size]) for start in range(0, 300, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    order = np.random.default_rng(0).permutation(300)
    np.testing.assert_array_equal(coder.encode(vectors[order]), whole[order])


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_code(method):
    """Learning is repeatable, and another seed gives other arrays."""
    first, again, other = learn(method, rows=200), learn(method, rows=200), learn(method, rows=200, seed=1)
    assert first.arrays.keys() == again.arrays.keys()
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name])
    assert any(not np.array_equal(array, other.arrays[name]) for name, array in first.arrays.items())


def test_codes_tell_groups_apart(coder):
    """Two vectors of one group differ in fewer bits, on the average, than two of different groups."""
    vectors, groups = clusters(200, seed=7)
    bits = unpacked(coder.encode(vectors))
    distances = (bits[:, None] != bits[None]).sum(axis=2)
    same = groups[:, None] == groups[None]
    others = ~np.eye(len(groups), dtype=bool)
    assert distances[same & others].mean() < 0.8 * distances[~same].mean()


@pytest.mark.parametrize("method", METHODS)
def test_keeping_a_coder_changes_nothing(method, tmp_path):
    """Registered, opened again: the same codes; and a model like any other, with a fingerprint of its own."""
    vectors, _ = clusters(100, seed=3)
    code = learn(method, rows=100)
    registry = Registry(tmp_path)
    model = register_coder(registry, "mine", code, {"method": method, "embeddings": "f" * 64}, "a test")
    opened = open_coder(registry.get("mine"))
    np.testing.assert_array_equal(opened.encode(vectors), make_coder(code, "f" * 64).encode(vectors))
    assert (opened.bits, opened.dimensions, opened.embeddings) == (16, SIZE, "f" * 64)
    assert registry.get("mine") == model
    other = register_coder(registry, "other", learn(method, rows=100, seed=2), model.manifest.head, "a test")
    assert file_fingerprint(other.manifest) != file_fingerprint(model.manifest)


def test_bits_are_packed_as_numpy_packs_them():
    """Bit 0 is the highest of the first byte."""
    code = linear_code(np.zeros(16), np.eye(16))
    vector = np.full((1, 16), -1, np.float32)
    vector[0, [0, 9]] = 1
    np.testing.assert_array_equal(make_coder(code, "").encode(vector), [[0b10000000, 0b01000000]])


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((2, SIZE + 1), np.float32), "float32 \\[n, 40\\]"),
        (np.zeros((2, SIZE)), "float64"),
        (np.zeros(SIZE, np.float32), "shape \\(40,\\)"),
        (np.full((1, SIZE), np.nan, np.float32), "NaN"),
        (np.full((1, SIZE), np.inf, np.float32), "infinity"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(coder, vectors, message):
    """With a message that says what was given."""
    with pytest.raises(ModelError, match=message):
        coder.encode(vectors)


def test_vectors_of_other_embeddings_are_refused(coder):
    """Where their fingerprint is told."""
    vectors, _ = clusters(3)
    coder.encode(vectors, embeddings="embeddings")
    with pytest.raises(ModelError, match="codes fit"):
        coder.encode(vectors, embeddings="others")


@pytest.mark.parametrize("bits", [0, 8, 15, 20, 520, -16])
def test_lengths_that_are_not_allowed_are_refused(bits):
    """Only multiples of 8 from 16 to 512."""
    with pytest.raises(ModelError, match="multiple of 8"):
        learn_code(clusters()[0], bits, "itq")


@pytest.mark.parametrize(
    ("rows", "bits", "method", "message"),
    [
        (0, 16, "itq", "too few"),
        (15, 16, "pca", "too few"),
        (17, 16, "neighbors", "too few"),
        (600, 48, "itq", "40 numbers"),
        (600, 16, "lsh", "one of neighbors"),
        (600, 16, "deepbit", "turned"),
    ],
)
def test_what_cannot_be_learned_is_refused(rows, bits, method, message):
    """Too few vectors, more bits than a method can make, an unknown method, no turned pictures."""
    with pytest.raises(ModelError, match=message):
        learn_code(clusters(600)[0][:rows], bits, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("vectors", [np.zeros((40, SIZE), np.float32), np.ones((40, SIZE), np.float32)])
def test_vectors_that_are_all_the_same_get_the_same_code(method, vectors):
    """Nothing to learn from is no crash."""
    given = Turned(np.stack([vectors] * len(ANGLES)))
    codes = make_coder(learn_code(vectors, 16, method, turned=given), "").encode(vectors)
    assert len(np.unique(codes, axis=0)) == 1


def test_a_damaged_file_is_refused(tmp_path):
    """Arrays that do not fit together, an array that is missing, and what is no file of arrays."""
    registry = Registry(tmp_path / "models")
    head = {"method": "pca", "embeddings": "f"}
    good = linear_code(np.zeros(4), np.ones((4, 16)))
    for name, arrays in {
        "short": {**good.arrays, "threshold": np.zeros(3)},
        "typed": {**good.arrays, "threshold": np.zeros(16, np.float32)},
        "lacking": {"projection": good.arrays["projection"]},
        "nan": {**good.arrays, "threshold": np.full(16, np.nan)},
        "none": {"projection": np.zeros((0, 16), np.float32), "threshold": np.zeros(16)},
    }.items():
        model = register_coder(registry, name, good, head, "a test")
        _replace_file(model, arrays, tmp_path / "file.npz", registry)
        with pytest.raises(ModelError, match="anew"):
            open_coder(registry.get(name))


def _replace_file(model, arrays, path, registry):
    np.savez(path, **arrays)
    manifest = dataclasses.replace(model.manifest, sha256={})
    registry.add(manifest, {"model": path}, replace=True)


def test_a_file_that_would_have_to_be_unpickled_is_refused(tmp_path):
    """What a stranger packed is never run."""
    registry = Registry(tmp_path / "models")
    model = register_coder(registry, "c", learn("pca"), {"method": "pca", "embeddings": "f"}, "a test")
    _replace_file(model, {"projection": np.array([{"a": 1}], dtype=object)}, tmp_path / "file.npz", registry)
    with pytest.raises(ModelError, match="no code"):
        open_coder(registry.get("c"))


def test_principal_components_keep_distances():
    """All of them are a rotation; the first holds the most variance."""
    vectors, _ = clusters()
    mean, basis, variances = principal_components(vectors, SIZE)
    np.testing.assert_allclose(basis.T @ basis, np.eye(SIZE), atol=1e-9)
    np.testing.assert_allclose(((vectors - mean) @ basis).var(axis=0), variances, atol=1e-6)
    assert (np.diff(variances) <= 1e-12).all()


def test_itq_lies_nearer_to_the_corners_than_a_random_rotation():
    """It is what it minimizes; and it is a rotation."""
    points = np.random.default_rng(0).standard_normal((500, 16)) * np.linspace(3, 0.1, 16)
    random = np.random.default_rng(1)

    def error(rotation):
        turned_points = points @ rotation
        return ((turned_points - np.sign(turned_points)) ** 2).sum()

    learned = codes_itq.quantizing_rotation(points, random)
    np.testing.assert_allclose(learned.T @ learned, np.eye(16), atol=1e-9)
    assert error(learned) < error(random_rotation(16, random))


def test_the_larger_half_is_set():
    """Bit by bit, equal ones by row."""
    outputs = np.array([[3.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    np.testing.assert_array_equal(codes_bihalf.halves(outputs), [[1, -1], [-1, -1], [1, 1], [-1, 1]])


def test_bits_of_bihalf_are_set_for_half_of_the_vectors():
    """It is what its name says."""
    vectors, _ = clusters()
    shares = unpacked(make_coder(learn("bihalf"), "").encode(vectors)).mean(axis=0)
    np.testing.assert_allclose(shares, 0.5, atol=0.01)


def _numeric(function, outputs, step=1e-6):
    gradient = np.zeros_like(outputs)
    for place in np.ndindex(*outputs.shape):
        for sign in (1, -1):
            moved = outputs.copy()
            moved[place] += sign * step
            gradient[place] += sign * function(moved) / (2 * step)
    return gradient


def test_gradients_of_deepbit_are_those_of_its_losses():
    """All three terms: none cancels another."""
    outputs = np.random.default_rng(0).standard_normal((len(ANGLES), 6, 4))
    losses, gradient = codes_deepbit.all_losses(outputs)
    assert min(losses.quantization, losses.even, losses.rotation) > 0

    def total(values):
        found = codes_deepbit.all_losses(values)[0]
        return found.quantization + found.even + found.rotation

    np.testing.assert_allclose(gradient, _numeric(total, outputs), atol=1e-6)
    plain, of_plain = codes_deepbit.plain_losses(outputs[0])
    assert plain.rotation == 0

    def plain_total(values):
        found = codes_deepbit.plain_losses(values)[0]
        return found.quantization + found.even

    np.testing.assert_allclose(of_plain, _numeric(plain_total, outputs[0]), atol=1e-6)


def test_angles_weigh_as_a_gaussian():
    """Those of the released augmentation: exp(-k^2 / 2) for k = -2 to 2."""
    np.testing.assert_allclose(codes_deepbit.angle_weights(), [0.1353, 0.6065, 1, 0.6065, 0.1353], atol=1e-4)


def test_deepbit_minds_a_turn_less_than_what_it_started_from():
    """Turned pictures keep more of their bits after the second stage than after the first."""
    vectors, _ = clusters()
    # A turn moves every vector along the same few directions.
    drift = np.random.default_rng(8).standard_normal((2, SIZE)) * 0.1
    amounts = np.random.default_rng(9).standard_normal((len(ANGLES), 200, 2))
    moved = Turned((vectors[:200] + amounts @ drift).astype(np.float32))
    still = Turned(np.stack([vectors[:200]] * len(ANGLES)))

    def flips(given):
        coder = make_coder(learn_code(vectors, 16, "deepbit", turned=given), "")
        upright = unpacked(coder.encode(vectors[:200]))
        return np.mean([(unpacked(coder.encode(part)) != upright).mean() for part in moved.vectors])

    assert flips(moved) < flips(still)


def test_nearest_landmarks_are_those_of_a_sort():
    """Ties by row; in integers, so exact."""
    random = np.random.default_rng(0)
    landmarks = np.rint(random.standard_normal((90, 8)) * 3).astype(np.float32)
    asked = np.rint(random.standard_normal((40, 8)) * 3).astype(np.float32)
    found = codes_neighbors.nearest(asked, landmarks, 7)
    scores = asked.astype(np.int64) @ landmarks.T.astype(np.int64)
    wanted = np.sort(np.argsort(-scores, axis=1, kind="stable")[:, :7], axis=1)
    np.testing.assert_array_equal(found, wanted)


def test_products_of_landmarks_are_exact():
    """Sums of products of the integers stay where float32 counts every integer."""
    vectors, _ = clusters(200)
    mean, basis, _ = principal_components(vectors, SIZE)
    seen = codes_neighbors.directions(vectors, mean, basis)
    exact = seen.astype(np.int64) @ seen.T.astype(np.int64)
    assert np.abs(exact).max() < 2**24
    np.testing.assert_array_equal((seen @ seen.T).astype(np.int64), exact)


def test_the_graph_is_symmetric_and_smooths_as_its_matrix_does():
    """Each tie stands in both directions with one weight, and none is lost."""
    random = np.random.default_rng(0)
    neighbors = np.stack([random.permutation(np.delete(np.arange(30), row))[:4] for row in range(30)])
    graph = codes_neighbors.tie(neighbors)
    matrix = np.zeros((30, 30))
    ends = np.append(graph.starts[1:], len(graph.others))
    for row, (start, stop) in enumerate(zip(graph.starts, ends, strict=True)):
        matrix[row, graph.others[start:stop]] = graph.weights[start:stop]
    np.testing.assert_allclose(matrix, matrix.T)
    assert all(matrix[row, column] > 0 for row in range(30) for column in neighbors[row])
    assert np.abs(np.linalg.eigvalsh(matrix)).max() <= 1 + 1e-6
    values = random.standard_normal((30, 3)).astype(np.float32)
    np.testing.assert_allclose(graph.smooth(values), matrix @ values, atol=1e-5)


def test_smoothest_functions_are_the_leading_eigenvectors():
    """But for the constant one; compared as the space that they span, where the eigenvalues leave a gap."""
    random = np.random.default_rng(0)
    places = np.concatenate(
        [random.standard_normal((20, 2)) * 0.3 + center for center in ((0, 0), (4, 0), (0, 5), (6, 6))]
    )
    gaps = ((places[:, None] - places[None]) ** 2).sum(axis=2)
    np.fill_diagonal(gaps, np.inf)
    graph = codes_neighbors.tie(np.argsort(gaps, axis=1)[:, :5])
    found = codes_neighbors.smoothest(graph, 3, np.random.default_rng(0))
    for column in found.T:  # constant within each of the four crowds
        for start in range(0, 80, 20):
            assert np.ptp(column[start : start + 20]) < 0.02 * np.ptp(column)


def test_a_coder_of_an_unknown_kind_is_refused(tmp_path):
    """A later imagelake may know it."""
    registry = Registry(tmp_path)
    model = register_coder(registry, "c", learn("pca"), {"method": "pca", "embeddings": "f"}, "a test")
    head = {**model.manifest.head, "kind": "deep"}
    later = dataclasses.replace(model, manifest=dataclasses.replace(model.manifest, head=head))
    with pytest.raises(ModelError, match="one of linear, neighbors"):
        open_coder(later)
    detector = dataclasses.replace(model, manifest=dataclasses.replace(model.manifest, task="tensor"))
    with pytest.raises(ModelError, match="is a tensor"):
        open_coder(detector)
    assert isinstance(learn("pca"), LearnedCode)
