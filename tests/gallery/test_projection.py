"""The embedding map of a lake: exact, made once, kept, and following the lake."""

import hashlib
import json
import subprocess
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from sklearn.manifold import trustworthiness
from typer.testing import CliRunner

import imagelake
from imagelake.cli.map import register
from imagelake.errors import BusyError, InputError
from imagelake.gallery import projecting, umap_layout
from imagelake.gallery.atlas import Atlas, Points
from imagelake.gallery.atlas_colors import NOTHING, colors_of, columns_of
from imagelake.gallery.atlas_export import file_of, table_of
from imagelake.gallery.drawing import DrawOptions, draw_map
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.projection import fit_basis, read_basis
from imagelake.lake.tables import open_tables
from imagelake.models.choice import text_of
from imagelake.models.manifest import fingerprint
from imagelake.run.extract import set_name
from imagelake.run.upkeep import delete
from imagelake.schema import IMAGES, embeddings
from privileges import let_all_reach, unprivileged

DIMENSIONS = 16


def name_of(number):
    return hashlib.sha256(b"%d" % number).hexdigest()


def vectors_of(numbers):
    """Of each number one vector, in three clusters."""
    found = []
    for number in numbers:
        random = np.random.default_rng(number)
        center = np.random.default_rng(900 + number % 3).normal(size=DIMENSIONS) * 6
        found.append(center + random.normal(size=DIMENSIONS))
    return np.array(found, np.float32).reshape(-1, DIMENSIONS)


def add(tables, numbers):
    """Put images of these numbers into the lake, with their vectors."""
    numbers = list(numbers)
    rows = [
        {"id": name_of(number), "uris": [f"file:///p/{number}.jpg"], "labels": [f"kind {number % 3}"],
         "brightness": float(number), "byte_size": 1, "bytes": b"x"}
        for number in numbers
    ]  # fmt: skip
    schema = IMAGES.append(pa.field("bytes", pa.large_binary()))
    tables.images.insert_new(pa.Table.from_pylist(rows, schema))
    flat = pa.array(vectors_of(numbers).ravel())
    vectors = pa.FixedSizeListArray.from_arrays(flat, DIMENSIONS)
    table = tables.embeddings(tables.embedding_sets()[0])
    table.insert_new(pa.table({"id": [name_of(number) for number in numbers], "vector": vectors}, table.schema))


def new_lake(folder, count):
    tables = open_tables(folder, create=True)
    manifest = imagelake.open(folder).default_model()
    tables.create_embeddings(set_name(manifest), embeddings(DIMENSIONS, text_of(manifest), fingerprint(manifest)))
    if count:
        add(tables, range(count))
    return tables


def shown(tables, method="pca"):
    """The map as somebody sees it who opens the lake now."""
    atlas = Atlas(Gallery(tables, None))
    found = atlas.points(atlas.choose_set(None), method, patience_s=60)
    assert isinstance(found, Points)
    return found


def place_of(points, number):
    at = points.numbers_of(np.array([int(name_of(number)[:16], 16)], np.uint64))[0]
    return points.xy[at] if at >= 0 else None


@pytest.mark.parametrize("count", [3, 12, 16, 17, 500])
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_pca_is_that_of_the_singular_value_decomposition(count, block):
    """However vectors come, their points are those of NumPy's SVD, each axis with its largest entry positive."""
    vectors = vectors_of(range(count)) + 1000
    basis = fit_basis((vectors[at : at + block] for at in range(0, count, block)), DIMENSIONS)
    centered = vectors.astype(np.float64) - vectors.astype(np.float64).mean(axis=0)
    _, values, axes = np.linalg.svd(centered, full_matrices=False)
    axes = np.array([axis if axis[np.argmax(np.abs(axis))] > 0 else -axis for axis in axes[:2]])
    np.testing.assert_allclose(basis.place(vectors), centered @ axes.T, atol=1e-4)
    np.testing.assert_allclose(basis.shares, (values**2 / (values**2).sum())[:2], rtol=1e-8)
    again = read_basis(basis.as_json())
    assert (again.place(vectors) == basis.place(vectors)).all()


@pytest.mark.parametrize("vectors", [np.empty((0, 3)), np.ones((1, 3)), np.ones((9, 3)), np.zeros((2, 3))])
def test_what_does_not_vary_lies_in_one_place(vectors):
    """No vectors, one, or equal ones all lie at (0, 0)."""
    basis = fit_basis([vectors.astype(np.float32)], 3)
    assert (basis.place(vectors.astype(np.float32)) == 0).all()
    assert basis.shares == (0.0, 0.0)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_images_have_a_map(tmp_path, count):
    """A lake of no images, or of very few, has a map with a finite point for each."""
    points = shown(new_lake(tmp_path / "lake", count))
    assert points.xy.shape == (count, 2)
    assert np.isfinite(points.xy).all()
    assert points.total == count


def test_map_is_made_once_and_read_afterwards(tmp_path, monkeypatch):
    """What the lake keeps is shown without being made again, and equal lakes have equal maps."""
    tables = new_lake(tmp_path / "lake", 40)
    first = shown(tables)
    assert first.kept
    assert len(tables.all()[f"projections/{tables.embedding_sets()[0]}"].read(["id"])) == 41
    monkeypatch.setattr(projecting, "fit_basis", None)
    second = shown(tables)
    assert (first.mark, first.xy.tolist()) == (second.mark, second.xy.tolist())
    monkeypatch.undo()
    other = shown(new_lake(tmp_path / "other", 40))
    assert (first.keys.tolist(), first.xy.tolist()) == (other.keys.tolist(), other.xy.tolist())


def test_new_images_are_placed_and_deleted_ones_vanish(tmp_path):
    """New images get the points that the kept plane gives them; those of deleted ones are gone, from the lake too."""
    tables = new_lake(tmp_path / "lake", 40)
    before = shown(tables)
    add(tables, range(40, 50))
    after = shown(tables)
    assert len(after.xy) == after.total == 50
    assert (place_of(after, 7) == place_of(before, 7)).all()
    assert np.linalg.norm(place_of(after, 43) - place_of(after, 7)) < np.linalg.norm(
        place_of(after, 43) - place_of(after, 8)
    )
    assert after.told.made_at == before.told.made_at
    kept = projecting.find(tables, tables.embedding_sets()[0], "pca")
    assert len(kept.ids) == 50
    report = delete(tables, f"id = '{name_of(7)}'", really=True)
    assert report.rows[f"projections/{tables.embedding_sets()[0]}"] == 1
    gone = shown(tables)
    assert place_of(gone, 7) is None
    assert len(gone.xy) == 49


def test_map_follows_while_it_is_open(tmp_path):
    """Whoever keeps the map open sees new images, and a plane that many outgrew is made again."""
    tables = new_lake(tmp_path / "lake", 4)
    atlas = Atlas(gallery := Gallery(tables, None))
    name = atlas.choose_set(None)
    first = atlas.points(name, "pca", patience_s=60)
    add(tables, range(4, 60))
    while len(gallery.catalog()) < 60:
        pass
    second = atlas.points(name, "pca", patience_s=60)
    assert len(second.xy) == 60
    assert second.told.made_at > first.told.made_at


def test_read_only_lake_keeps_its_map_in_memory(tmp_path):
    """Where the lake cannot be written, there is a map all the same, and it says that it is not kept."""
    tables = new_lake(tmp_path / "lake", 20)
    let_all_reach(tmp_path)
    subprocess.run(["chmod", "-R", "a+rX,a-w", str(tmp_path / "lake")], check=True)
    with unprivileged():
        atlas = Atlas(Gallery(tables, None))
        points = atlas.points(atlas.choose_set(None), "pca", patience_s=60)
        assert not points.kept
        assert atlas.points(atlas.choose_set(None), "pca") is points
    assert not (Path(tables.root) / "projections").exists()
    subprocess.run(["chmod", "-R", "u+w", str(tmp_path / "lake")], check=True)


def test_older_lakes_and_newer_maps_are_read(tmp_path):
    """A map of a later format is no error: it is made again; a lake with maps opens as before."""
    tables = new_lake(tmp_path / "lake", 10)
    shown(tables)
    table = tables.projections(tables.embedding_sets()[0])
    table.delete("image_id IS NULL")
    table.append(
        pa.table(
            {
                "id": ["z"],
                "projection": ["z"],
                "image_id": pa.nulls(1, pa.string()),
                "x": pa.nulls(1, pa.float32()),
                "y": pa.nulls(1, pa.float32()),
                "told": ['{"format": 99}'],
            },
            table.schema,
        )
    )
    assert len(shown(tables).xy) == 10
    assert (
        imagelake.open(tmp_path / "lake")
        .sql(f'SELECT count(*) AS n FROM "projections/{tables.embedding_sets()[0]}"')
        .to_pylist()[0]["n"]
        >= 11
    )


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory):
    """A lake with a map by UMAP, that map, and what was told while it was made; a TensorFlow lay in wait."""
    if not umap_layout.is_installed():
        pytest.skip("the extra umap is not installed")
    folder = tmp_path_factory.mktemp("umap")
    (folder / "modules" / "tensorflow").mkdir(parents=True)
    trap = f"from pathlib import Path; Path({str(folder / 'imported')!r}).touch(); raise ImportError('a trap')"
    (folder / "modules" / "tensorflow" / "__init__.py").write_text(trap)
    tables, told = new_lake(folder / "lake", 120), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder / "modules"), prepend=":")
        kept = projecting.make(
            tables, tables.embedding_sets()[0], "umap", lambda task, share: told.append((task, share))
        )
    assert not (folder / "imported").exists(), "TensorFlow was imported, which takes 20 seconds"
    return tables, kept, told


def test_umap_is_faithful_and_kept(laid_out):
    """A map by UMAP keeps neighbors together, tells how far it is, and is the lake's from then on."""
    tables, kept, told = laid_out
    vectors = vectors_of(range(120))
    number = {name_of(each): each for each in range(120)}
    order = np.argsort([number[each] for each in kept.ids])
    assert trustworthiness(vectors, kept.points[order], n_neighbors=10) > 0.8
    assert [task for task, _ in told] == sorted(
        [task for task, _ in told], key=["vectors", "neighbors", "layout"].index
    )
    points = shown(tables, "umap")
    assert points.kept
    assert len(points.xy) == 120


def test_new_images_go_among_their_neighbors(laid_out):
    """In a map by UMAP a few new images lie in their cluster; very many leave it as it is."""
    tables, kept, _ = laid_out
    add(tables, range(120, 126))
    points = shown(tables, "umap")
    assert len(points.xy) == 126
    centers = [np.mean([place_of(points, each) for each in range(kind, 120, 3)], axis=0) for kind in range(3)]
    for number in range(120, 126):
        far = [np.linalg.norm(place_of(points, number) - center) for center in centers]
        assert int(np.argmin(far)) == number % 3
    name = tables.embedding_sets()[0]
    assert projecting.place(tables, name, kept, [*kept.ids, *(f"{each:064x}" for each in range(99))]) is kept


def test_one_map_is_made_at_a_time(tmp_path, monkeypatch):
    """While one map is made another is refused, the same one is not begun again, and a failure says why."""
    tables = new_lake(tmp_path / "lake", 10)
    go_on = threading.Event()

    def wait(*_):
        go_on.wait(30)
        raise InputError("nothing fits")

    monkeypatch.setattr("imagelake.gallery.atlas.make", wait)
    monkeypatch.setattr(umap_layout, "is_installed", lambda: True)
    atlas = Atlas(Gallery(tables, None))
    name = atlas.choose_set(None)
    job = atlas.make(name, "umap")
    assert atlas.make(name, "umap") is job
    with pytest.raises(BusyError, match="umap is being made"):
        atlas.make(name, "pca")
    go_on.set()
    assert job.ended.wait(30)
    assert atlas.job()["error"] == "nothing fits"
    with pytest.raises(InputError, match="nothing fits"):
        atlas.points(name, "pca", patience_s=30)


@pytest.mark.parametrize(
    ("embedding_set", "method", "word"),
    [(None, "tsne", "pca, umap"), ("nothing", "pca", "It has: "), ("../x", "pca", "It has: ")],
)
def test_wrong_names_are_explained(tmp_path, embedding_set, method, word):
    """A method or a set that there is not is refused with those that there are."""
    atlas = Atlas(Gallery(new_lake(tmp_path / "lake", 1), None))
    with pytest.raises(InputError, match=word):
        atlas.points(atlas.choose_set(embedding_set), method)


def test_map_opens_in_other_programs(tmp_path):
    """Parquet, CSV and JSON hold the same points; the command line writes them."""
    tables = new_lake(tmp_path / "lake", 20)
    report = draw_map(tables, DrawOptions(export=tmp_path / "map.parquet"))
    assert (report.made, report.kept, report.placed, report.total) == (True, True, 20, 20)
    table = pq.read_table(tmp_path / "map.parquet")
    assert table.column_names[:4] == ["id", "uri", "x", "y"]
    assert table.schema.field("x").type == pa.float32()
    again = draw_map(tables, DrawOptions(export=tmp_path / "map.csv"))
    assert not again.made
    assert len((tmp_path / "map.csv").read_text().splitlines()) == 21
    with pytest.raises(InputError, match=r"\.parquet"):
        draw_map(tables, DrawOptions(export=tmp_path / "map.xlsx"))
    points, gallery = shown(tables), Gallery(tables, None)
    few = table_of(points, gallery.catalog(), np.array([3, 1]))
    assert few.column("x").to_pylist() == points.xy[[3, 1], 0].tolist()
    assert b"file:///p/" in file_of(few, "json")


def test_colors_are_counted_as_sql_counts(tmp_path):
    """Legends tell of each value how many points have it; numbers lie between the ends of their scale."""
    tables = new_lake(tmp_path / "lake", 40)
    gallery, points = Gallery(tables, None), shown(tables)
    made = colors_of(gallery, gallery.catalog(), "labels", points.keys)
    rows = imagelake.open(tmp_path / "lake").sql(
        "SELECT labels[1] AS l, count(*) AS n FROM images GROUP BY 1 ORDER BY 2 DESC, 1"
    )
    assert made.legend["values"] == [[row["l"], row["n"]] for row in rows.to_pylist()]
    assert np.bincount(made.codes).tolist() == [row["n"] for row in rows.to_pylist()]
    bright = colors_of(gallery, gallery.catalog(), "brightness", points.keys)
    numbers = np.array([int(row["b"]) for row in _by_key(tmp_path / "lake")])
    assert (np.argsort(numbers, kind="stable")[[0, -1]] == np.argsort(bright.values, kind="stable")[[0, -1]]).all()
    assert bright.legend["ends"] == [0.0, 39.0]
    assert (bright.values >= 0).all()
    assert (bright.values <= 1).all()
    for column in columns_of(gallery):
        found = colors_of(gallery, gallery.catalog(), column["name"], points.keys)
        assert found.kind == column["kind"]
        if column["name"] in {"lens", "tags"}:
            assert (found.codes == NOTHING).all()
    with pytest.raises(InputError, match="colored by 'exif'"):
        colors_of(gallery, gallery.catalog(), "exif", points.keys)


def _by_key(folder):
    return imagelake.open(folder).sql("SELECT brightness AS b FROM images ORDER BY id").to_pylist()


def test_command_line_makes_and_keeps_the_map(tmp_path):
    """`imagelake map` makes the map once, reads it from then on, and explains what it cannot do."""
    tables = new_lake(tmp_path / "lake", 20)
    app = typer.Typer()
    register(app)
    app.callback()(lambda: None)
    run = partial(CliRunner().invoke, app)
    said = run(["map", "--lake", tables.root, "--json"])
    assert json.loads(said.stdout)["made"]
    said = run(["map", "--lake", tables.root, "--json", "--export", str(tmp_path / "map.json")])
    assert not json.loads(said.stdout)["made"]
    assert len(json.loads((tmp_path / "map.json").read_text())) == 20
    assert isinstance(run(["map", "--lake", tables.root, "--set", "none"]).exception, InputError)
    assert "20 of 20 images" in run(["map", "--lake", tables.root, "--again"]).stdout
