"""From vectors of a lake to a coder, to codes, to matches."""

import numpy as np
import pytest

import imagelake
from imagelake import schema
from imagelake.errors import InputError, ModelError
from imagelake.lake.tables import Tables, manifest_text
from imagelake.models.choice import choose_coder, find_embedder, open_any_embedder, read_text
from imagelake.models.coder import open_coder
from imagelake.models.codes_deepbit import ANGLES
from imagelake.models.file_manifest import file_fingerprint
from imagelake.models.registry import default_registry
from imagelake.run import turned
from imagelake.run.code_search import hamming_index, open_code_index, unpacked
from imagelake.run.codes import FitOptions, code_set_name, fingerprint_of_table, fit_codes, sample_vectors, write_codes
from pictures import encode, make_image

PICTURES = 36
MODEL = {"input_size": 64}


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    """A registry of the test's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *_, **__: str(tmp_path / "data" / "imagelake"))


@pytest.fixture
def filled(lake, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(PICTURES):
        (folder / f"{seed}.jpg").write_bytes(encode(make_image(seed), quality=90))
    lake.ingest(folder)
    lake.extract(imagelake.model("efficientnet-lite0", **MODEL))
    return lake


def coded(lake, method="itq", bits=16, **options):
    """A coder that was learned on a lake, its codes written."""
    report = fit_codes(lake.tables, FitOptions(bits=bits, method=method, pictures=8, **options))
    model = choose_coder(report.coder)
    write_codes(lake.tables, model)
    return model


def vectors_of(tables: Tables):
    (name,) = tables.embedding_sets()
    return tables.embeddings(name)


def test_a_lake_without_vectors(lake):
    """Says what to do."""
    with pytest.raises(InputError, match="imagelake extract"):
        fit_codes(lake.tables)


@pytest.mark.parametrize("method", ["neighbors", "itq", "pca", "bihalf", "deepbit"])
def test_every_method_makes_a_coder_and_codes(filled, method):
    """The coder is a registered model; each vector gets the code that the coder gives it."""
    report = fit_codes(filled.tables, FitOptions(bits=16, method=method, pictures=5))
    assert (report.vectors, report.bits, report.method) == (PICTURES, 16, method)
    assert report.turned == (5 if method == "deepbit" else 0)
    model = default_registry().get(report.coder)
    assert model.manifest.task == "coder"
    assert report.fingerprint == file_fingerprint(model.manifest)
    written = write_codes(filled.tables, model)
    assert (written.found, written.added, written.known, written.removed) == (PICTURES, PICTURES, 0, 0)
    table = filled.tables.codes(written.code_set)
    rows = table.read(["id", "code"]).to_pydict()
    coder = open_coder(model)
    vectors, ids = sample_vectors(vectors_of(filled.tables), 1000, 0)
    expected = dict(zip(ids, (code.tobytes() for code in coder.encode(vectors)), strict=True))
    assert dict(zip(rows["id"], rows["code"], strict=True)) == expected
    told = table.schema.metadata
    assert told[b"imagelake:fingerprint"].decode() == report.fingerprint
    assert told[b"imagelake:embeddings"].decode() == report.embeddings
    assert read_text(manifest_text(table)) == model.manifest


def test_writing_again_does_only_what_is_new(filled, tmp_path):
    """Nothing the second time; one new picture gets one code; a vector that goes takes its code along."""
    model = coded(filled)
    again = write_codes(filled.tables, model)
    assert (again.found, again.added, again.known) == (PICTURES, 0, PICTURES)
    version = filled.tables.codes(code_set_name(model)).version()
    write_codes(filled.tables, model)
    assert filled.tables.codes(code_set_name(model)).version() == version
    (tmp_path / "pictures" / "new.jpg").write_bytes(encode(make_image(99)))
    filled.ingest(tmp_path / "pictures")
    filled.extract(imagelake.model("efficientnet-lite0", **MODEL))
    more = write_codes(filled.tables, model)
    assert (more.found, more.added, more.known) == (PICTURES + 1, 1, PICTURES)
    gone = sample_vectors(vectors_of(filled.tables), 1000, 0)[1][0]
    vectors_of(filled.tables).delete(f"id = '{gone}'")
    less = write_codes(filled.tables, model)
    assert (less.found, less.added, less.removed) == (PICTURES, 0, 1)
    assert filled.tables.codes(code_set_name(model)).count(f"id = '{gone}'") == 0


def test_codes_are_a_table_that_sql_knows(filled):
    """By the name `codes/NAME`."""
    name = code_set_name(coded(filled))
    assert filled.tables.code_sets() == [name]
    assert filled.sql(f'select count(*) as n from "codes/{name}"').to_pylist() == [{"n": PICTURES}]
    with pytest.raises(InputError, match=name):
        filled.tables.codes("nothing")


def test_a_search_by_codes_equals_brute_force(filled):
    """Every picture as the query: all of the lake by (Hamming distance, id)."""
    model = coded(filled)
    coder, table = open_coder(model), filled.tables.codes(code_set_name(model))
    vectors, ids = sample_vectors(vectors_of(filled.tables), 1000, 0)
    bits = np.unpackbits(coder.encode(vectors), axis=1)
    options = imagelake.SearchOptions(k=PICTURES, codes=True)
    found = filled.search_random(PICTURES, options, seed=0)
    assert len(found) == PICTURES
    for query, matches in found.items():
        distances = (bits != bits[ids.index(query)]).sum(axis=1)
        wanted = sorted(zip(distances.tolist(), ids, strict=True))
        assert [(match.distance, match.id) for match in matches] == wanted
    assert len(hamming_index(table, 16)) == PICTURES


def test_reranking_all_of_them_is_the_exact_search(filled):
    """Same matches, same distances, same order; and with fewer, those of the nearest codes by exact distance."""
    coded(filled)
    for query in filled.search_random(5, imagelake.SearchOptions(k=1), seed=1):
        data = filled.tables.images.bytes_of([query])[query]
        exact = filled.search(data, k=PICTURES)
        assert filled.search(data, k=PICTURES, codes=True, rerank=PICTURES) == exact
        assert filled.search(data, k=7, codes=True, rerank=10_000) == exact[:7]
        near = {match.id for match in filled.search(data, k=9, codes=True)}
        assert filled.search(data, k=4, codes=True, rerank=9) == [m for m in exact if m.id in near][:4]


def test_a_predicate_and_the_query_itself_can_be_left_out(filled):
    """As in every search."""
    coded(filled)
    (query,) = filled.search_random(1, imagelake.SearchOptions(k=1), seed=1)
    data = filled.tables.images.bytes_of([query])[query]
    everyone = filled.search(data, k=PICTURES, codes=True)
    assert filled.search(data, k=PICTURES, codes=True, exclude_self=True) == [m for m in everyone if m.id != query]
    others = filled.search(data, k=PICTURES, codes=True, where=f"id <> '{query}'")
    assert others == [m for m in everyone if m.id != query]
    assert filled.search(data, k=3, codes=True, rerank=9, where="width < 0") == []


def test_a_picture_that_is_not_in_the_lake_is_embedded_and_coded(filled):
    """And finds its twin first."""
    coded(filled)
    copy = encode(make_image(5), "PNG")
    assert filled.search(copy, k=1, codes=True, rerank=PICTURES)[0].uri.endswith("/5.jpg")


def test_a_search_without_codes_says_what_to_do(filled):
    """Also where the lake has codes of other vectors only, or of several coders."""
    data = encode(make_image(3))
    with pytest.raises(InputError, match="codes fit"):
        filled.search(data, codes=True)
    coded(filled, "itq")
    coded(filled, "pca")
    with pytest.raises(InputError, match="several coders"):
        filled.search(data, codes=True)
    chosen = next(name for name in default_registry().names() if name.startswith("pca"))
    assert filled.search(data, codes=True, coder=chosen)
    with pytest.raises(InputError, match="no codes of the coder 'none'"):
        filled.search(data, codes=True, coder="none")
    with pytest.raises(InputError, match="--codes"):
        filled.search(data, rerank=3)
    with pytest.raises(InputError, match="-1"):
        filled.search(data, codes=True, coder=chosen, rerank=-1)


def test_a_coder_of_other_vectors_is_refused(filled):
    """It is told by the fingerprint, though the vectors have the same length."""
    model = coded(filled)
    other = imagelake.open(filled.tables.root + "2", create=True).tables
    manifest = manifest_text(vectors_of(filled.tables))
    other.create_embeddings("set", schema.embeddings(1280, manifest, "f" * 64))
    with pytest.raises(InputError, match="codes fit"):
        write_codes(other, model)


def test_another_coder_of_the_same_name_is_refused(filled):
    """Codes and query must be of one coder; writing codes with the new one mends it."""
    coded(filled, name="mine")
    data = encode(make_image(3))
    fit_codes(filled.tables, FitOptions(bits=16, method="pca", name="mine", replace=True))
    with pytest.raises(InputError, match="codes write"):
        filled.search(data, codes=True)
    write_codes(filled.tables, choose_coder("mine"))
    assert filled.search(data, codes=True)
    default_registry().remove("mine")
    with pytest.raises(ModelError, match="mine"):
        filled.search(data, codes=True, coder="mine")


def test_a_name_is_taken_once(filled):
    """Unless it is to be replaced."""
    first = fit_codes(filled.tables, FitOptions(bits=16, method="itq", name="mine"))
    with pytest.raises(ModelError, match="--replace"):
        fit_codes(filled.tables, FitOptions(bits=16, method="itq", name="mine"))
    again = fit_codes(filled.tables, FitOptions(bits=16, method="itq", name="mine", replace=True))
    assert again.fingerprint == first.fingerprint  # the same data and seed, the same coder


def test_what_is_learned_from_does_not_depend_on_the_order_of_rows(filled):
    """A sample depends on the ids alone, and is ordered by them."""
    table = vectors_of(filled.tables)
    vectors, ids = sample_vectors(table, 20, 3)
    assert ids == sorted(ids)
    assert len(ids) == 20
    everything, names = sample_vectors(table, 1000, 3)
    np.testing.assert_array_equal(vectors, everything[[names.index(each) for each in ids]])
    assert sample_vectors(table, 20, 4)[1] != ids


def test_upright_is_one_of_the_turns_and_no_corner_is_seen(filled):
    """All turns of one picture have the same size, and an even picture stays even."""
    image = np.full((61, 100, 3), 200, np.uint8)
    shown = [chain.apply(image).array for chain in turned.turns((100, 61))]
    assert len(shown) == len(ANGLES)
    assert len({each.shape for each in shown}) == 1
    assert all((each == 200).all() for each in shown)
    picture = make_image(1)
    height, width = picture.shape[:2]
    flat = turned.turns((width, height))[ANGLES.index(0.0)].apply(picture).array
    top, left = (height - flat.shape[0]) // 2, (width - flat.shape[1]) // 2
    near = [
        picture[top + y : top + y + flat.shape[0], left + x : left + x + flat.shape[1]] for y in (0, 1) for x in (0, 1)
    ]
    assert any(np.array_equal(flat, each) for each in near)


def test_turned_pictures_are_embedded_by_the_model_of_the_set(filled):
    """In the order of the angles, and only as many as are asked for."""
    table = vectors_of(filled.tables)
    ids = sample_vectors(table, 1000, 0)[1]
    given = turned.turned_vectors(filled.tables, table, ids, 3, 0).vectors
    assert given.shape == (len(ANGLES), 3, 1280)
    embedder = open_any_embedder(find_embedder(read_text(manifest_text(table))))
    again = turned.turned_vectors(filled.tables, table, ids, 3, 0).vectors
    np.testing.assert_allclose(given, again, atol=1e-5)
    assert embedder.dimensions == 1280
    with pytest.raises(InputError, match="--pictures"):
        turned.turned_vectors(filled.tables, table, ids, 0, 0)
    with pytest.raises(InputError, match="None of the pictures"):
        turned.turned_vectors(filled.tables, table, ["0" * 64], 3, 0)


def test_an_index_of_codes_answers_several_queries(filled):
    """One row each, ordered by (distance, id), also where some are compared again."""
    model = coded(filled)
    table = vectors_of(filled.tables)
    vectors, _ = sample_vectors(table, 1000, 0)
    for rerank in (0, 12):
        index = open_code_index(filled.tables, table, "cosine", rerank=rerank)
        assert len(index) == len(index.ids) == PICTURES
        distances, ids = index.search(vectors[:4], 5)
        assert distances.shape == ids.shape == (4, 5)
        for row in range(4):
            alone = index.search(vectors[row : row + 1], 5)
            np.testing.assert_array_equal(distances[row], alone[0][0])
            np.testing.assert_array_equal(ids[row], alone[1][0])
        assert index.search(vectors[:0], 5)[1].shape[0] == 0
    assert fingerprint_of_table(table) == model.manifest.head["embeddings"]


def test_codes_of_a_slice_of_a_column_are_its_own(filled):
    """A column that begins in the middle of its buffer."""
    model = coded(filled)
    batch = next(iter(filled.tables.codes(code_set_name(model)).scan(["code"])))
    column = batch.column("code")
    np.testing.assert_array_equal(unpacked(column)[3:9], unpacked(column.slice(3, 6)))
