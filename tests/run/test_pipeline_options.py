"""A pipeline in a TOML file: what is read, and what is refused with which words."""

import pytest

from imagelake.errors import InputError, ModelError
from imagelake.models.registry import Registry
from imagelake.run.pipeline_options import ExtractOptions, options_of, pipeline_of, read_options
from tiny_models import brighter_half, mean_color

WHOLE = """
engine = "spark"

[detect]
model = "brighter-half"
labels = ["left"]
min_score = 0.5
keep = "all"
most = 3

[crop]
margin = 0.1

[embed]
model = "mean-color"

[spark]
master = "local-cluster[2,1,1024]"
conf = { "spark.task.cpus" = "1" }
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    brighter_half(folder)
    mean_color(folder)
    return Registry(folder / "registry")


def written(tmp_path, text):
    path = tmp_path / "product.toml"
    path.write_text(text)
    return path


def test_an_empty_file_asks_for_nothing(tmp_path):
    """A step that is left out is not done, and a pipeline without steps is refused."""
    options = read_options(written(tmp_path, ""))
    assert options == ExtractOptions()
    with pytest.raises(InputError, match="does nothing"):
        pipeline_of(options)


def test_every_key_arrives(tmp_path, registry):
    """In the options, and in the pipeline that they mean."""
    options = read_options(written(tmp_path, WHOLE))
    assert (options.engine, options.spark.master) == ("spark", "local-cluster[2,1,1024]")
    assert options.spark.conf == {"spark.task.cpus": "1"}
    pipeline = pipeline_of(options, registry=registry)
    detect = pipeline.detect
    assert (detect.labels, detect.min_score, detect.keep, detect.most) == (("left",), 0.5, "all", 3)
    assert (pipeline.crop.margin, pipeline.dimensions, pipeline.detector_name) == (0.1, 3, "brighter-half")


def test_crops_are_made_unless_they_are_switched_off(registry):
    """Where there are both a detector and an embedder."""
    both = {"detect": {"model": "brighter-half"}, "embed": {"model": "mean-color"}}
    assert pipeline_of(options_of(both), registry=registry).of_regions
    assert not pipeline_of(options_of(both | {"crop": False}), registry=registry).of_regions
    assert not pipeline_of(options_of({"detect": both["detect"]}), registry=registry).of_regions


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("detekt = 1", ["detekt", "Did you mean detect?", "Allowed are"]),
        ("[detect]\nmodel = 'subject'\nmin_scores = 1", ["[detect] min_scores", "min_score"]),
        ("[detect]\nlabels = ['cat']", ["[detect] lacks model"]),
        ("[detect]\nmodel = 3", ["[detect] model is 3", "a word"]),
        ("[detect]\nmodel = 'subject'\nlabels = 'cat'", ["labels is 'cat'", "a list of words"]),
        ("[detect]\nmodel = 'subject'\nkeep = 'first'", ["keep is 'first'", "best, all"]),
        ("[detect]\nmodel = 'subject'\nmost = true", ["most is True", "a whole number"]),
        ("[embed]\nprecision = 'int4'", ["precision is 'int4'", "auto, fp32, int8"]),
        ("[crop]\nmargin = 'wide'", ["margin is 'wide'", "a number"]),
        ("detect = 'subject'", ["detect is 'subject'", "it is a table"]),
        ("crop = true", ["crop is True"]),
        ("engine = 'ray'", ["engine is 'ray'", "local, spark"]),
        ("[spark]\nconf = { a = 1 }", ["conf is", "a table of words"]),
        ("detect = [", ["no TOML"]),
    ],
)
def test_what_is_wrong_is_refused_with_what_is_allowed(tmp_path, text, words):
    """And the file's name."""
    with pytest.raises(InputError) as raised:
        read_options(written(tmp_path, text))
    for word in ["product.toml", *words]:
        assert word in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    """As any other input."""
    with pytest.raises(InputError, match=r"none\.toml.*cannot be read"):
        read_options(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"detect": {"model": "subject"}, "crop": {}}, InputError, "takes a detector"),
        ({"detect": {"model": "brighter-halves"}}, ModelError, "brighter-half"),
        ({"detect": {"model": "mean-color"}}, ModelError, "is an embedder; a detector is needed"),
        ({"embed": {"model": "brighter-half"}}, ModelError, "is a detector; an embedder is needed"),
        ({"embed": {"model": "mean-color", "input_size": 64}}, ModelError, "in its manifest"),
        ({"detect": {"model": "brighter-half", "labels": ["lefty"]}}, InputError, "Did you mean left?"),
        ({"detect": {"model": "subject", "min_score": 1.5}}, InputError, "between 0 and 1"),
        ({"detect": {"model": "subject", "most": 0}}, InputError, "1 or more"),
        ({"embed": {}, "code": {"model": "none"}}, ModelError, "none yet"),
    ],
)
def test_steps_that_cannot_be_are_refused(registry, given, error, words):
    """Before anything runs."""
    with pytest.raises(error) as raised:
        pipeline_of(options_of(given), registry=registry)
    assert words in str(raised.value)


def test_a_source_may_have_options(tmp_path):
    """As a table; one word will do where there are none."""
    told = "[source]\nwhat = 'postgresql://host/shop'\ntable = 'products'\nallow_private = true"
    source = read_options(written(tmp_path, told)).source
    assert (source.what, source.table, source.allow_private, source.column) == (
        "postgresql://host/shop", "products", True, None,
    )  # fmt: skip
    assert read_options(written(tmp_path, "source = 'photos/'")).source == "photos/"
    with pytest.raises(InputError, match="lacks what"):
        read_options(written(tmp_path, "[source]\ntable = 'products'"))
