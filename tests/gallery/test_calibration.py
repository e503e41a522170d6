"""How near is near: what a distance tells beside those to a random sample of the lake."""

import math

import numpy as np
import pytest

from imagelake.gallery import calibration
from imagelake.gallery.calibration import LEAST, LINE, bar, distances_to, fit, prepared
from imagelake.search.index import ExactIndex


def noise(count, dims=64, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dims)).astype(np.float32)


def before_the_cut(query, vectors, metric="cosine"):
    """How many of some vectors are nearer to a query than chance."""
    distances = distances_to(query, prepared(vectors, metric), metric)
    background = fit(distances, bounded=metric != "dot")
    return sum(len(vectors) * background.share(each) < 1 for each in distances)


@pytest.mark.parametrize("count", [0, 1, LEAST - 1])
def test_little_tells_nothing(count):
    """Of fewer images than are needed, nothing is said."""
    assert fit(np.linspace(0.2, 1, count)) is None


@pytest.mark.parametrize("value", [0.0, 0.5, -3.0])
def test_all_equally_far_tells_nothing(value):
    """Where all distances are the same, no other can be called near."""
    assert fit(np.full(500, value)) is None


def test_nothing_nearer_is_more_by_chance():
    """The share never falls as the distance grows, is 0 at no distance and stays within 0 and 1."""
    for seed in range(20):
        random = np.random.default_rng(seed)
        background = fit(random.gamma(9, 0.1, 300))
        shares = [background.share(each) for each in np.sort(np.append(random.uniform(0, 4, 500), [0, 4]))]
        assert shares == sorted(shares)
        assert shares[0] == 0
        assert 0 <= shares[-1] <= 1


def test_order_of_the_sample_is_nothing():
    """The same distances in another order tell the same."""
    distances = np.random.default_rng(1).gamma(9, 0.1, 300)
    assert fit(distances) == fit(np.random.default_rng(2).permutation(distances))


def test_scale_is_nothing():
    """Ten times as far beside a lake that is ten times as far is as near."""
    distances = np.random.default_rng(3).gamma(9, 0.1, 300)
    one, ten = fit(distances), fit(distances * 10)
    assert ten.share(3.0) == pytest.approx(one.share(0.3))


@pytest.mark.parametrize("metric", ["cosine", "l2", "dot"])
def test_noise_is_chance(metric):
    """Where nothing belongs to the query, about one image comes before the cut-off, as the cut-off says."""
    found = [before_the_cut(query, noise(2000, seed=seed + 100), metric) for seed, query in enumerate(noise(30))]
    assert np.mean(found) < 3


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_planted_cluster_is_found(metric):
    """Vectors that were planted around the query come before the cut-off, and hardly any other."""
    for seed, query in enumerate(noise(10, seed=7)):
        planted = query + 0.3 * noise(40, seed=seed)
        found = before_the_cut(query, np.concatenate([noise(1960, seed=seed + 50), planted]), metric)
        assert 40 <= found < 50


def test_bar_grows_as_chance_shrinks():
    """A bar is at the line where chance gives one, longer where it gives less, and full where it gives nothing."""
    assert bar(1.0, 5000) == pytest.approx(LINE)
    assert bar(0.0, 5000) == 1.0
    assert bar(5000.0, 5000) == 0.0
    lengths = [bar(chance, 5000) for chance in (5000, 300, 1, 0.01, 1e-9, 1e-100, 0)]
    assert lengths == sorted(lengths)
    assert all(0 <= bar(chance, among) <= 1 for chance in (0, 1e-300, 0.5, 2, 1e9) for among in (0, 1, 2, 10**9))


@pytest.mark.parametrize("metric", ["cosine", "l2", "dot"])
def test_distances_are_those_of_the_index(metric):
    """The sample is measured as the index measures, zeros too."""
    vectors, query = noise(80, 16), noise(1, 16, seed=5)[0]
    vectors[3] = 0
    distances, ids = ExactIndex(vectors, metric=metric).search(query[None], 80)
    found = distances_to(query, prepared(vectors, metric), metric)
    np.testing.assert_allclose(found[ids[0]], distances[0], atol=1e-5)


def test_nothing_breaks_it():
    """Whatever the distances are, a share is a number between 0 and 1."""
    for seed in range(600):
        random = np.random.default_rng(seed)
        distances = random.choice([0.0, 1e-300, 1e-9, 0.5, 1.0, 1e9, 1e300], LEAST) * random.uniform(0, 1, LEAST)
        background = fit(distances, bounded=bool(seed % 2))
        if background is not None:
            assert all(0 <= background.share(each) <= 1 for each in (*distances, 0.0, -1.0, 1e308))
            assert all(math.isfinite(each) for each in (background.middle, background.spread))


def test_documented_numbers_are_the_constants():
    """What the page's help says of the line is so."""
    assert (LINE, calibration.LEAST, calibration.SAMPLE) == (0.4, 50, 2000)
