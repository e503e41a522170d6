"""The default model as a classifier: it names what photos show."""

from pathlib import Path

import numpy as np
import pytest

from imagelake.errors import ModelError
from imagelake.models.default_classifier import SIDE, open_default_classifier
from imagelake.pixels.decode import decode_rgb
from imagelake.sources.sample_photos import sample_photos


@pytest.fixture(scope="module")
def classifier():
    return open_default_classifier(precision="fp32")


def photo(name):
    return decode_rgb(next(Path(path) for path in sample_photos() if path.name == name).read_bytes())


def test_no_pictures_have_no_scores(classifier):
    """0 pictures give 0 rows and 0 guesses."""
    assert classifier.scores([]).shape == (0, 1000)
    assert classifier.top_k(np.zeros((0, SIDE, SIDE, 3), np.uint8)) == []


def test_photos_are_named(classifier):
    """A cup of coffee is an espresso, and a cat is a cat; the probabilities of all classes make 1."""
    prepared = [classifier.prepare(photo(name)) for name in ("coffee.png", "chelsea.png")]
    coffee, cat = classifier.top_k(prepared, 3)
    assert coffee[0].label == "espresso"
    assert coffee[0].score > 0.5
    assert {guess.label for guess in cat} == {"Egyptian cat", "tiger cat", "tabby"}
    np.testing.assert_allclose(classifier.scores(prepared).sum(axis=1), 1, rtol=1e-5)
    assert [guess.score for guess in coffee] == sorted((guess.score for guess in coffee), reverse=True)


def test_a_picture_scores_alike_in_any_company(classifier):
    """Stacked or one by one, alone or among nine, a picture has the same scores."""
    rng = np.random.default_rng(3)
    prepared = rng.integers(0, 256, (9, SIDE, SIDE, 3), dtype=np.uint8)
    whole = classifier.scores(prepared)
    np.testing.assert_allclose(classifier.scores(list(prepared)), whole, atol=1e-6)
    np.testing.assert_allclose(classifier.scores(prepared[4:5]), whole[4:5], rtol=1e-3, atol=1e-6)


def test_wrong_arguments_are_refused(classifier):
    """No threads, no classes and other shapes are errors that say what is allowed."""
    with pytest.raises(ModelError, match="give 1 or more"):
        open_default_classifier(threads=0)
    with pytest.raises(ModelError, match="ask for 1 or more"):
        classifier.top_k([], 0)
    with pytest.raises(ModelError, match="does not fit"):
        classifier.scores(np.zeros((1, 8, 8, 3), np.uint8))


def test_the_fingerprint_is_of_the_scores(classifier):
    """Another precision gives other scores and has another fingerprint."""
    assert len(classifier.fingerprint) == 64
    assert classifier.fingerprint == open_default_classifier(precision="fp32").fingerprint
