"""What is public is a list, and the list is true."""

import ast
import inspect
from pathlib import Path

import pytest

import imagelake
import imagelake.search

PUBLIC = {
    "DuplicateGroup",
    "DuplicateOptions",
    "DuplicateReport",
    "ExportReport",
    "ExtractOptions",
    "ExtractReport",
    "GroupedImage",
    "ImagelakeError",
    "IngestReport",
    "Lake",
    "LakeInfo",
    "Manifest",
    "Match",
    "Matches",
    "Pipeline",
    "PlacesReport",
    "Progress",
    "QualityOptions",
    "QualityReport",
    "RunInfo",
    "SearchOptions",
    "Source",
    "TagReport",
    "extract_source",
    "model",
    "open",
    "read_pipeline",
}


def test_the_names_are_these():
    """A new public name is a decision: it is added here too."""
    assert set(imagelake.__all__) == PUBLIC
    assert set(dir(imagelake)) == PUBLIC | {"__version__"}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_name_arrives_and_is_documented(name):
    """With a docstring, and so does every public method."""
    value = getattr(imagelake, name)
    assert inspect.getdoc(value)
    if inspect.isclass(value):
        for attribute, member in vars(value).items():
            if not attribute.startswith("_") and callable(member):
                assert inspect.getdoc(member), f"{name}.{attribute}"


def test_type_checkers_see_the_same_names():
    """What `__getattr__` hands out is what the annotations promise."""
    tree = ast.parse(Path(imagelake.__file__).read_text())
    promised = {
        alias.asname or alias.name
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        for alias in node.names
    }
    assert promised | {"ImagelakeError"} == PUBLIC


def test_an_unknown_name_lists_the_known_ones():
    """As every error does."""
    with pytest.raises(AttributeError, match=r"ingest_all.*open"):
        imagelake.ingest_all  # noqa: B018


def test_the_search_room_is_public_too():
    """`imagelake.search` serves whoever has vectors and no lake."""
    names = {"Certificate", "ExactIndex", "HammingIndex", "NearestNeighbors", "RangeResult", "SearchResult"}
    assert set(dir(imagelake.search)) == set(imagelake.search.__all__) == names
    for name in names:
        assert inspect.getdoc(getattr(imagelake.search, name))
    with pytest.raises(AttributeError, match=r"FlatIndex.*ExactIndex"):
        imagelake.search.FlatIndex  # noqa: B018
