"""How a lake and the matches of a search show themselves in a notebook."""

import copy
import json
import pickle
import re
import shutil
from html.parser import HTMLParser

import pyarrow as pa
import pytest

import imagelake
from imagelake.gallery.notebook_html import MOST_PICTURES, Matches
from imagelake.run.search import Match
from imagelake.schema import REGIONS
from pictures import encode, make_image

HOSTILE = '<img src=x onerror="alert(1)">\'"&\u202egpj.exe'
MOST_BYTES = 400_000


class Page(HTMLParser):
    """What a browser would see: the elements, their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


def checked(html):
    """The page, once it is sure that it runs nothing, fetches nothing and sets no color that one theme cannot show."""
    page = Page(html)
    for tag, attributes in page.elements:
        assert tag in {"div", "table", "tr", "td", "th", "img"}
        assert set(attributes) <= {"style", "src", "alt", "title", "width", "height"}
        assert attributes.get("src", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        style = attributes.get("style", "")
        assert "url(" not in style
        assert not re.search("(^|;)color:(?!inherit)|#[0-9a-f]{3}", style)
    assert len(html) < MOST_BYTES
    assert "\u202e" not in html
    return page


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A lake of five pictures, with vectors; the name of one is markup. Nobody may change it: see `own`."""
    tmp_path = tmp_path_factory.mktemp("notebook-html")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(5):
        (folder / (f"{HOSTILE}.jpg" if seed == 3 else f"{seed}.jpg")).write_bytes(encode(make_image(seed, 300, 200)))
    lake = imagelake.open(tmp_path / "shown.lake", create=True)
    lake.ingest(folder)
    lake.extract()
    return lake


@pytest.fixture
def own(named, tmp_path):
    """A copy of that lake, to change."""
    return imagelake.open(shutil.copytree(named.root, tmp_path / "own.lake"))


def test_an_empty_lake_says_what_to_do(tmp_path):
    """It has no pictures to show, and none are asked for."""
    page = checked(imagelake.open(tmp_path / "empty.lake", create=True)._repr_html_())
    assert "lake.ingest" in " ".join(page.words)
    assert not [tag for tag, _ in page.elements if tag == "img"]


def test_a_lake_shows_facts_and_its_newest_pictures(named):
    """With names as they are, and none of them as markup."""
    page = checked(named._repr_html_())
    words = " ".join(page.words)
    assert "5 of 5 files" in words
    assert "1,280 numbers" in words
    assert len([tag for tag, _ in page.elements if tag == "img"]) == 5
    assert '<img src=x onerror="alert(1)">' in words


def test_a_lake_that_is_gone_says_so(own, tmp_path):
    """Showing never raises."""
    (tmp_path / "own.lake").rename(tmp_path / "away.lake")
    assert "cannot be read" in " ".join(checked(own._repr_html_()).words)


def test_matches_are_a_list(named):
    """Equal to one, written as one in JSON; a copy and a pickle are plain lists, without the query's bytes."""
    query = encode(make_image(3, 200, 150))
    matches = named.search(query, k=3)
    plain = list(matches)
    assert isinstance(matches, Matches)
    assert isinstance(matches, list)
    assert matches == plain
    assert repr(matches) == repr(plain)
    assert json.dumps([match.id for match in matches]) == json.dumps([match.id for match in plain])
    assert matches[0].distance <= matches[1].distance
    for other in (pickle.loads(pickle.dumps(matches)), copy.copy(matches), copy.deepcopy(matches)):
        assert type(other) is list
        assert other == plain


def test_matches_show_the_query_and_each_distance(named):
    """The query first, whether it is a file's bytes or an image of the lake."""
    matches = named.search(encode(make_image(3, 200, 150)), k=3)
    by_id = next(iter(named.search_random(1, imagelake.SearchOptions(k=3), seed=1).values()))
    for each in (matches, by_id):
        page = checked(each._repr_html_())
        assert len([tag for tag, _ in page.elements if tag == "img"]) == 4
        for match in each:
            assert f"{match.distance:.4f}" in page.words
        assert "query" in page.words


def test_no_matches_show_themselves_too(named):
    """An empty answer is an answer."""
    matches = named.search(encode(make_image(3)), k=3, where="width > 100000")
    assert matches == []
    assert "0 matches" in " ".join(checked(matches._repr_html_()).words)


def test_many_matches_are_bounded(named):
    """So many pictures, and the count of the others; what is no longer in the lake keeps its place."""
    one = named.search(encode(make_image(3)), k=1)[0]
    gone = Match("0" * 64, "file:///gone.jpg", 0.5)
    page = checked(Matches([gone] + [one] * 999, named.tables, b"no picture")._repr_html_())
    assert len([tag for tag, _ in page.elements if tag == "img"]) == MOST_PICTURES - 1
    assert f"and {1000 - MOST_PICTURES} more" in page.words
    assert "gone.jpg" in page.words


def test_a_region_is_drawn_and_named(named):
    """With its label, which may be anything, too."""
    one = named.search(encode(make_image(3)), k=1)[0]
    label = "<script>alert(1)</script>"
    region = Match(one.id, one.uri, 0.25, (0.1, 0.1, 0.9, 0.9), label)
    page = checked(Matches([region], named.tables, one.id)._repr_html_())
    assert label in " ".join(page.words)
    sources = [attributes["src"] for tag, attributes in page.elements if tag == "img"]
    assert len(set(sources)) == 2  # the query without the box, the match with it
    assert REGIONS.field("label").type == pa.string()


def test_every_report_shows_itself(own, tmp_path):
    """As a heading and a table, with names escaped."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / f"{HOSTILE} again.png").write_bytes(encode(make_image(3, 150, 100), "PNG"))
    reports = [own.ingest(folder), own.extract(), own.quality(), own.duplicates(), own.tag("true", add=["a"])]
    reports.append(own.export(tmp_path / "out", where="width = 150"))
    for report in reports:
        page = checked(report._repr_html_())
        assert page.words[0].endswith("report")
    duplicates = " ".join(checked(own.duplicates()._repr_html_()).words)
    assert "onerror" in duplicates
    assert "hash" in duplicates
