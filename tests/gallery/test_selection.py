"""What the address of a view selects, and how many images have what, beside a naive count."""

import threading
import time
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from gallery_rows import COUNT, image, write
from hypothesis import given, settings
from hypothesis import strategies as st

import imagelake
from imagelake.errors import InputError
from imagelake.gallery.catalog import read_catalog
from imagelake.gallery.facets import NAMES, NONE, camera_of, folder_of
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.items import items_of
from imagelake.gallery.layout import NO_MONTH, layout_of
from imagelake.gallery.orders import ORDERS, natural, order_of
from imagelake.gallery.selection import Selection, counts_of, rows_of
from imagelake.lake.tables import open_tables
from imagelake.schema import IMAGES


@pytest.fixture(scope="module")
def rows() -> list:
    return [image(number) for number in range(COUNT)]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory, rows) -> Gallery:
    return Gallery(write(tmp_path_factory.mktemp("lake") / "l", rows).tables, None)


def values_of(row: dict) -> dict:
    """What an image has of each facet, told from its row once more."""
    country, place = row["country_code"], row["place"]
    return {
        "label": set(row["labels"] or []) or {NONE},
        "tag": set(row["tags"] or []) or {NONE},
        "year": {str(row["taken_at"].year)} if row["taken_at"] else {NONE},
        "place": {country, *([f"{country}/{place}"] if place else [])} if country else {NONE},
        "camera": {camera_of(row["camera_make"], row["camera_model"]) or NONE},
        "folder": {folder_of(uri) for uri in row["uris"]},
        "format": {row["format"]},
        "flag": set(row["flags"]) or {NONE},
        "set": {NONE},
        "gps": {"yes" if row["latitude"] is not None else "no"},
    }


CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "label": st.lists(st.sampled_from(["cat", "dog", NONE, "unknown"]), min_size=1, max_size=2),
        "tag": st.lists(st.sampled_from(["good", NONE]), min_size=1, max_size=2),
        "year": st.lists(st.sampled_from(["2020", "2021", NONE]), min_size=1, max_size=3),
        "place": st.lists(st.sampled_from(["JP", "JP/Kyoto", NONE]), min_size=1, max_size=2),
        "camera": st.lists(st.sampled_from(["Canon EOS R5", "Canon", NONE]), min_size=1, max_size=2),
        "format": st.lists(st.sampled_from(["jpeg", "png"]), min_size=1, max_size=2),
        "gps": st.lists(st.sampled_from(["yes", "no"]), min_size=1, max_size=2),
    },
)


@settings(max_examples=60, deadline=None)
@given(CHOICES)
def test_facets_equal_a_naive_count(gallery, rows, chosen):
    """Values of a facet are alternatives, facets hold together, and counts put the facet's own choice aside."""
    selection = Selection(facets={name: tuple(values) for name, values in chosen.items()})

    def passes(row: dict, without: str = "") -> bool:
        own = values_of(row)
        return all(own[name] & set(values) for name, values in chosen.items() if name != without)

    found = gallery.catalog().ids_of(rows_of(gallery, selection))
    assert sorted(found) == sorted(row["id"] for row in rows if passes(row))
    counts = counts_of(gallery, selection)
    assert tuple(counts) == NAMES
    for name, told in counts.items():
        naive = Counter(value for row in rows if passes(row, name) for value in values_of(row)[name])
        assert dict(told) == dict(naive), name
        assert [count for _, count in told] == sorted(naive.values(), reverse=True)


def test_predicate_selects_what_sql_does(gallery, rows):
    """The predicate of the address is that of SQL, and joins what the facets choose."""
    selection = Selection(where="width > 2000", facets={"format": ("png",)})
    wanted = {row["id"] for row in rows if row["width"] > 2000 and row["format"] == "png"}
    assert set(gallery.catalog().ids_of(rows_of(gallery, selection))) == wanted


@pytest.mark.parametrize("sort", [sign + name for name in ORDERS for sign in ("", "-")] + ["random:7", "-random:7"])
def test_orders_hold_all_rows_once_nulls_last(gallery, rows, sort):
    """Each order has every image once; those without a value come last, equals by id."""
    found = gallery.catalog().ids_of(order_of(gallery.catalog(), sort))
    assert sorted(found) == sorted(row["id"] for row in rows)
    name = sort.removeprefix("-")
    if name.startswith("random"):
        return
    by_id = {row["id"]: row for row in rows}

    def value(image_id):
        row = by_id[image_id]
        if name == "name":
            return natural(folder_of(row["uris"][0]) and row["uris"][0].rsplit("/", 1)[1].replace("%20", " "))
        if name == "pixels":
            return row["width"] * row["height"]
        return row.get(name)

    there = [i for i in sorted(by_id) if value(i) is not None]
    wanted = sorted(there, key=value, reverse=sort.startswith("-"))  # stable: equals stay by id
    wanted += [i for i in sorted(by_id) if value(i) is None]
    assert found == wanted


def test_random_order_is_the_seeds(gallery):
    """One seed is one order, another seed another."""
    catalog = gallery.catalog()
    assert order_of(catalog, "random:7").tolist() == order_of(catalog, "random:7").tolist()
    assert order_of(catalog, "random:7").tolist() != order_of(catalog, "random:8").tolist()


def test_names_sort_as_people_count():
    """Numbers in names go by their size, and case and width do not matter."""
    wanted = ["", "9", "10", "9" * 400, "A.jpg", "b.jpg", "Photo 9", "photo 10"]
    shuffled = [wanted[place] for place in (5, 2, 7, 0, 3, 6, 1, 4)]
    assert sorted(shuffled, key=natural) == wanted
    assert sorted(["\u00b2", "2"], key=natural) == ["2", "\u00b2"]
    assert sorted(["photo 10", "photo 9", "Photo 1"], key=natural) == ["Photo 1", "photo 9", "photo 10"]


@pytest.mark.parametrize(
    ("bounds", "inside"),
    [
        ("-180,-90,180,90", lambda *_: True),
        ("0,0,90,80", lambda lat, lon: 0 <= lon <= 90 and 0 <= lat <= 80),
        ("170,-80,-170,80", lambda _, lon: lon >= 170 or lon <= -170),
    ],
)
def test_bounds_select_by_position(gallery, rows, bounds, inside):
    """Bounds hold what lies in them, also across the 180th meridian; images without a position are in none."""
    found = set(gallery.catalog().ids_of(rows_of(gallery, Selection(facets={"bounds": (bounds,)}))))
    wanted = {r["id"] for r in rows if r["latitude"] is not None and inside(r["latitude"], r["longitude"])}
    assert found == wanted


@pytest.mark.parametrize(
    ("selection", "named"),
    [
        (Selection(sort="price"), "taken_at, added_at, name"),
        (Selection(sort="name:3"), "random:SEED"),
        (Selection(sort="random:x"), "9 digits"),
        (Selection(facets={"color": ("red",)}), "label, tag, year"),
        (Selection(facets={"gps": ("maybe",)}), "yes or no"),
        (Selection(facets={"bounds": ("1,2,3",)}), "west,south,east,north"),
        (Selection(facets={"bounds": ("1,2,nan,4",)}), "west,south,east,north"),
        (Selection(facets={"bounds": ("1,9,2,3",)}), "west,south,east,north"),
        (Selection(where="wdth > 3"), "wdth"),
        (Selection(where="1=1) UNION (SELECT 1"), "condition"),
        (Selection(text=" ".join(f"w{i}" for i in range(40))), "at most 32"),
    ],
)
def test_what_is_wrong_names_what_is_allowed(gallery, selection, named):
    """A wrong part of an address is refused with what is allowed, by lists and counts alike."""
    with pytest.raises(InputError, match=named.replace(")", r"\)")):
        rows_of(gallery, selection)


def test_items_are_what_tiles_need(gallery, rows):
    """A tile has the id, the name, the shape, a color, and lists that are never null."""
    by_id = {row["id"]: row for row in rows}
    found = items_of(gallery, rows_of(gallery, Selection(sort="name")))
    assert len(found) == COUNT
    for item in found:
        row = by_id[item["id"]]
        assert (item["width"], item["height"]) == (row["width"], row["height"])
        assert item["labels"] == (row["labels"] or [])
        assert item["color"] == "#fa8080"
        assert item["taken_at"] == (row["taken_at"].isoformat() if row["taken_at"] else None)
    ids = [item["id"] for item in found[:3]]
    assert [item["id"] for item in items_of(gallery, [*ids, "f" * 64])] == ids


def test_layout_tells_the_shape_of_every_image(gallery, rows):
    """Five bytes an image: color, month and a shape within one percent, in the order of the rows."""
    chosen = rows_of(gallery, Selection(sort="name"))
    data = layout_of(gallery.catalog(), chosen)
    assert len(data) == 5 * COUNT
    by_id = {row["id"]: row for row in rows}
    told = [by_id[each] for each in gallery.catalog().ids_of(chosen)]
    months = np.frombuffer(data, "<i2", COUNT, 2 * COUNT).tolist()
    assert months == [
        (r["taken_at"].year - 1970) * 12 + r["taken_at"].month - 1 if r["taken_at"] else NO_MONTH for r in told
    ]
    ratios = 8 ** (np.frombuffer(data, np.uint8, COUNT, 4 * COUNT) / 127 - 1)
    wanted = np.clip([r["width"] / r["height"] for r in told], 1 / 8, 8)
    assert np.abs(ratios / wanted - 1).max() < 0.01


def test_empty_lake_has_nothing_and_no_fault(tmp_path):
    """A lake without an image: every list is empty, whatever is asked."""
    gallery = Gallery(imagelake.open(tmp_path / "l", create=True).tables, None)
    for selection in (
        Selection(),
        Selection(text="cat"),
        Selection(where="width > 1"),
        Selection(facets={"label": ("cat",), "bounds": ("0,0,1,1",)}, sort="random:3"),
        *(Selection(sort=name) for name in ORDERS),
    ):
        assert rows_of(gallery, selection).tolist() == []
        assert all(told == [] for told in counts_of(gallery, selection).values())
    assert items_of(gallery, np.empty(0, np.int64)) == []
    assert layout_of(gallery.catalog(), np.empty(0, np.int64)) == b""
    assert gallery.catalog().rows_of(["f" * 64]).tolist() == [-1]


def test_columns_that_an_older_lake_lacks_are_null(tmp_path, rows):
    """A lake of an older version, without places, keywords and flags: the rest of it is shown as ever."""
    import lance  # only here: to drop columns as if they never were

    lake = write(tmp_path / "l", rows)
    dataset = lance.dataset(lake.tables.images.uri)
    dataset.drop_columns(["place", "country", "country_code", "keywords", "flags", "exif", "rating"])
    gallery = Gallery(open_tables(tmp_path / "l"), None)
    counts = counts_of(gallery, Selection(text="photo"))
    assert dict(counts["flag"]) == {NONE: COUNT - 1}
    assert items_of(gallery, [0])[0]["flags"] == []


def test_catalog_follows_the_lake(tmp_path, rows):
    """What is added, tagged and deleted appears; while the lake is read again, the older state answers."""
    lake = write(tmp_path / "l", rows[:10])
    gallery = Gallery(lake.tables, None)
    before = gallery.catalog()
    assert len(before) == 10
    columns = IMAGES.append(pa.field("bytes", pa.large_binary()))
    lake.tables.images.insert_new(pa.Table.from_pylist(rows[10:20], columns))
    lake.tag(f"id = '{rows[0]['id']}'", add=["new"])
    end = time.monotonic() + 20
    while gallery.catalog().mark == before.mark and time.monotonic() < end:
        time.sleep(0.05)
    after = gallery.catalog()
    assert (len(before), len(after)) == (10, 20)
    assert after.ids_of(rows_of(gallery, Selection(facets={"tag": ("new",)}), after)) == [rows[0]["id"]]
    assert len(rows_of(gallery, Selection(text="darktable"), after)) == sum(bool(r["exif"]) for r in rows[:20])


def test_catalog_is_asked_by_many_at_once(gallery):
    """Threads that ask at the same moment get the same counts, made once."""
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(counts_of(gallery, Selection(text="photo")))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(each == found[0] for each in found)


def test_embedding_sets_are_a_facet(built_lake_tables):
    """The facet `set` counts the images that each embedding set has a vector of; the catalog is the same again."""
    catalog = read_catalog(built_lake_tables)
    assert read_catalog(built_lake_tables, catalog) is catalog
    assert {name: len(rows) for name, rows in catalog.sets.items()} == {"test": 2}


@pytest.fixture
def built_lake_tables(tmp_path, rows):
    from imagelake.schema import embeddings

    lake = write(tmp_path / "l", rows[:3])
    vectors = lake.tables.create_embeddings("test", embeddings(2, "{}", "f"))
    vectors.insert_new(
        pa.Table.from_pylist(
            [{"id": r["id"], "vector": [1.0, 2.0]} for r in rows[:2]],
            pa.schema(
                [
                    pa.field("id", pa.string(), nullable=False),
                    pa.field("vector", pa.list_(pa.float32(), 2), nullable=False),
                ]
            ),
        )
    )
    return lake.tables
