"""The search as the plane serves it: what the lake finds, as arrays of one length."""

from dataclasses import dataclass

import numpy as np
import pytest

from imagelake.errors import ImageError, InputError
from imagelake.serve.plane import Plane
from imagelake.serve.search_model import K, SearchModel


@dataclass
class Found:
    id: str
    uri: str
    distance: float
    box_xyxy: tuple | None = None
    label: str | None = None


class Line:
    """A lake of five images that stand on a line, at 0, 1, 2, 3 and 4."""

    dimensions = 1
    embedding_set = "line"

    def search_vectors(self, vectors, *, k, where=None):
        assert where is None
        return [self._nearest(float(vector[0]), k) for vector in vectors]

    def search_pictures(self, pictures, *, k, where=None, box_xyxy=None, exclude_self=False):
        assert (where, box_xyxy, exclude_self) == (None, None, False)
        if b"" in pictures:
            raise ImageError("the file is empty")
        return [self._nearest(float(len(picture)), k) for picture in pictures]

    def _nearest(self, at, k):
        order = sorted(range(5), key=lambda place: (abs(place - at), place))
        return [Found(f"id{place}", f"file:///é{place}", abs(place - at)) for place in order[:k]]


@pytest.fixture
def plane():
    with Plane() as opened:
        opened.load(SearchModel(Line()))
        yield opened


def strings(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_no_queries_find_nothing(plane):
    """0 pictures or vectors give 0 rows."""
    for inputs in ({"image": strings()}, {"vector": np.zeros((0, 1), np.float32)}):
        assert {name: array.shape for name, array in plane.infer("search", inputs).items()} == {
            "ids": (0, K),
            "uris": (0, K),
            "distances": (0, K),
        }


def test_the_nearest_come_first(plane):
    """Vectors and pictures find what the lake finds, in its order, in bytes."""
    two = np.array([2], np.int64)
    by_vector = plane.infer("search", {"vector": np.float32([[0.25], [4]]), "k": two})
    assert by_vector["ids"].tolist() == [[b"id0", b"id1"], [b"id4", b"id3"]]
    assert by_vector["uris"][0, 0] == "file:///é0".encode()
    assert by_vector["distances"].tolist() == [[0.25, 0.75], [0, 1]]
    by_picture = plane.infer("search", {"image": strings(b"xx"), "k": two}, ["ids"])
    assert {name: array.tolist() for name, array in by_picture.items()} == {"ids": [[b"id2", b"id1"]]}


def test_what_is_not_there_is_empty(plane):
    """A lake with fewer images than asked for fills up with nothing and infinity."""
    answer = plane.infer("search", {"vector": np.float32([[0]]), "k": np.array([7], np.int64)})
    assert answer["ids"][0, 5:].tolist() == [b"", b""]
    assert answer["uris"][0, 5:].tolist() == [b"", b""]
    assert answer["distances"][0, 5:].tolist() == [np.inf, np.inf]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"k": np.array([3], np.int64)}, "either the input image or the input vector"),
        ({"image": strings(b"x"), "vector": np.zeros((1, 1), np.float32)}, "either"),
        ({"image": strings(b"x"), "k": np.array([0], np.int64)}, "k is 0; give 1 to"),
        ({"image": strings(b"x"), "k": np.array([1 << 60], np.int64)}, "give 1 to"),
        ({"vector": np.zeros((1, 2), np.float32)}, r"float32 \[any, 1\]"),
        ({"image": strings(*[b"x"] * 257)}, "at most 256"),
        ({"vector": np.zeros((50_000, 1), np.float32), "k": np.array([1_000], np.int64)}, "too much at once"),
    ],
)
def test_what_cannot_be_searched_is_refused(plane, inputs, message):
    """Both queries, none, another length, or more than memory holds are errors that say what is allowed."""
    with pytest.raises(InputError, match=message):
        plane.infer("search", inputs)


def test_a_broken_picture_is_its_own_error(plane):
    """What the lake says of a picture reaches the caller."""
    with pytest.raises(ImageError, match="empty"):
        plane.infer("search", {"image": strings(b"")})
