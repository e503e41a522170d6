"""The laws of every step: promised schema, any split, empty batches, bad rows, pickling."""

import math
import pickle

import pyarrow as pa
import pytest

import imagelake
from imagelake.lake.ids import IdSet
from imagelake.sources.source import complete
from imagelake.steps.describe import Describe
from imagelake.steps.extract import ExtractPictures
from imagelake.steps.identify import Identify, content_id
from imagelake.steps.pipeline import Crop, Detect, Pipeline
from pictures import encode, make_image
from tiny_models import brighter_half, mean_color

GOOD = [encode(make_image(seed), form) for seed, form in enumerate(["JPEG", "PNG", "WEBP", "JPEG", "GIF", "TIFF"])]
TIMES = ("read_s", "decode_s", "detect_s", "embed_s")  # no two runs take the same time
BAD = [b"", b"no picture", GOOD[0][: len(GOOD[0]) // 2]]


def source_rows():
    """Good pictures, pictures that fail, and a row that could not even be read."""
    data = [GOOD[0], BAD[0], GOOD[1], None, BAD[1], GOOD[2], GOOD[3], BAD[2], GOOD[4], GOOD[5], GOOD[0]]
    errors = [None if each is not None else "cannot be read: gone" for each in data]
    columns = [pa.array([f"u{n}" for n in range(len(data))]), pa.array(data, pa.large_binary()), pa.array(errors)]
    return complete(pa.record_batch(columns, names=["uri", "bytes", "error"]))


def identified_rows():
    known = IdSet([pa.array([content_id(GOOD[1])])])
    return Identify(known).open()(source_rows())


def stored_rows():
    rows = [data for data in source_rows().column("bytes").to_pylist() if data is not None]
    return pa.record_batch(
        {"id": pa.array([f"{n}" for n in range(len(rows))]), "bytes": pa.array(rows, pa.large_binary())}
    )


def embed(models):
    return ExtractPictures(Pipeline(embed=imagelake.model("efficientnet-lite0", precision="fp32", input_size=64)))


def regions(models):
    detect = Detect(model=brighter_half(models), keep="all", min_score=0.1)
    return ExtractPictures(Pipeline(detect=detect, crop=Crop(margin=0.1), embed=mean_color(models)))


def detect_alone(models):
    return ExtractPictures(Pipeline(detect=Detect(model=brighter_half(models), min_score=0.6)))


STEPS = {
    "identify": (lambda _: Identify(IdSet([pa.array([content_id(GOOD[1])])])), source_rows),
    "describe": (lambda _: Describe(), identified_rows),
    "embed": (embed, stored_rows),
    "regions": (regions, stored_rows),
    "detect": (detect_alone, stored_rows),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(params=STEPS)
def case(request, models):
    """A step and a batch that it takes."""
    step, rows = STEPS[request.param]
    return step(models), rows()


def same(one, other):
    """Equal values; vectors to 1e-5, since float32 sums depend on how a batch is cut."""
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return math.isclose(one, other, abs_tol=1e-5) if isinstance(one, float) else one == other


def run(step, batches):
    function = step.open()
    rows = [row for batch in batches for row in function(batch).to_pylist()]
    return [{name: value for name, value in row.items() if not name.endswith(TIMES)} for row in rows]


def test_the_output_has_the_promised_schema(case):
    """Names, types and order; every picture that went in comes out, once or with each of its regions."""
    step, rows = case
    out = step.open()(rows)
    assert out.schema.equals(step.output_schema(rows.schema))
    key = "image_id" if "image_id" in out.schema.names else "uri"
    before = rows.column("id" if key == "image_id" else key).to_pylist()
    assert list(dict.fromkeys(out.column(key).to_pylist())) == before
    out.validate(full=True)


def test_an_empty_batch_gives_an_empty_batch(case):
    """Of the promised schema."""
    step, rows = case
    out = step.open()(rows.slice(0, 0))
    assert out.num_rows == 0
    assert out.schema.equals(step.output_schema(rows.schema))


@pytest.mark.parametrize("size", [1, 4])
def test_splitting_the_input_changes_no_row(case, size):
    """However the batches are cut."""
    step, rows = case
    pieces = [rows.slice(start, size) for start in range(0, rows.num_rows, size)]
    assert same(run(step, pieces), run(step, [rows]))


def test_pickling_changes_nothing(case):
    """A step travels to a worker and does the same there."""
    step, rows = case
    assert same(run(pickle.loads(pickle.dumps(step)), [rows]), run(step, [rows]))


def test_a_step_is_small_and_frozen(case):
    """It carries parameters, not models."""
    step, _ = case
    assert len(pickle.dumps(step)) < 8192
    with pytest.raises(AttributeError):
        step.anything = 1


def test_a_row_that_fails_stays_a_row_with_its_error(models):
    """Its own reason, and nobody else's."""
    described = Describe().open()(identified_rows()).to_pylist()
    reasons = [row["error"] for row in described]
    assert [n for n, reason in enumerate(reasons) if reason] == [1, 3, 4, 7]
    assert reasons[3] == "cannot be read: gone"
    assert all(row["width"] is None for row in described if row["error"])
    embedded = run(embed(models), [stored_rows()])
    assert [n for n, row in enumerate(embedded) if row["error"]] == [1, 3, 6]
    assert all((row["vector"] is None) == (row["error"] is not None) for row in embedded)


def test_what_is_known_is_not_decoded_again():
    """It keeps its id and gets no description."""
    (row,) = [row for row in Describe().open()(identified_rows()).to_pylist() if row["known"]]
    assert row["id"] == content_id(GOOD[1])
    assert row["width"] is None
    assert row["error"] is None
