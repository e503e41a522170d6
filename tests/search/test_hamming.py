"""The laws of Hamming search: it equals counting bits one by one, in order, whatever the width, ids and threads."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagelake.errors import SearchError
from imagelake.search import hamming, hamming_native, hamming_plain, hamming_search
from imagelake.search.hamming import HammingIndex
from imagelake.search.hamming_codes import words_of

WIDTHS = [16, 24, 64, 128, 256, 1024]


def all_distances(queries, codes):
    """Every distance by unpacking the bits; shape (m, n)."""
    left, right = np.unpackbits(queries, axis=1), np.unpackbits(codes, axis=1)
    return (left[:, None, :] != right[None, :, :]).sum(axis=2)


def oracle(queries, codes, ids, k):
    """Python's own sort by (distance, id)."""
    ids, distances = list(ids), all_distances(queries, codes).tolist()
    ranked = [sorted(zip(row, ids, strict=True))[:k] for row in distances]
    return [[d for d, _ in row] for row in ranked], [[i for _, i in row] for row in ranked]


def some_codes(random, rows, bits):
    """Half of them drawn from a few, so that there are duplicates and ties."""
    codes = random.integers(0, 256, (rows, bits // 8), dtype=np.uint8)
    codes[: rows // 2] = codes[random.integers(0, max(1, min(rows, 5)), rows // 2)]
    return codes


def some_ids(random, rows, kind):
    numbers = random.permutation(3 * rows)[:rows]
    return {"none": None, "int": numbers - rows, "str": np.array([f"é{i}" for i in numbers], dtype="U9")}[kind]


KERNELS = {"C": hamming_native, "NumPy": hamming_plain}
TINY = {
    hamming_native: {"MOST_QUERIES": 4, "_TILE_BYTES": 96, "_ROOM": 3, "_SPARE": 0},
    hamming_plain: {"MOST_QUERIES": 4, "_TILE": 96, "_SAMPLE": 8, "_PENDING": 30},
    hamming_search: {"_ROWS_EACH": 5, "_UNEVEN": 4, "_PENDING": 30, "_PAIR_QUERIES": 4, "_PAIR_ROWS": 15},
}


@pytest.fixture(params=KERNELS)
def kernel(request, monkeypatch):
    """The same laws for both implementations; threads start however little there is to do."""
    if not KERNELS[request.param].available():
        pytest.skip("the C kernel was not compiled here")
    monkeypatch.setattr(hamming, "_kernel", KERNELS[request.param])
    monkeypatch.setattr(hamming_search, "_WORTH_THREADS", 0)
    return KERNELS[request.param]


@pytest.fixture(params=["as shipped", "tiny tiles"])
def tiles(request, kernel, monkeypatch):
    """The same laws with so small tiles, blocks and stretches that every boundary is crossed."""
    if request.param == "tiny tiles":
        for module, sizes in TINY.items():
            for name, value in sizes.items():
                monkeypatch.setattr(module, name, value)


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize(("kind", "threads"), [("none", 1), ("int", 2), ("str", 3)])
@pytest.mark.parametrize("bits", WIDTHS)
def test_search_equals_the_oracle(bits, kind, threads):
    """Distances and ids are the oracle's, for k of none, one, some, all and more than all."""
    random = np.random.default_rng(bits)
    for rows in (0, 1, 60):
        codes, queries = some_codes(random, rows, bits), some_codes(random, 9, bits)
        queries[: min(rows, 3)] = codes[:3]
        index = HammingIndex(codes, some_ids(random, rows, kind), threads=threads)
        for k in (0, 1, 7, rows, rows + 5):
            distances, ids = index.search(queries, k)
            assert (distances.shape, distances.dtype) == ((9, min(k, rows)), np.int32)
            assert (distances.tolist(), ids.tolist()) == oracle(queries, codes, index.ids.tolist(), k)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("bits", WIDTHS)
def test_many_rows_equal_the_oracle(bits):
    """Rows beyond the sample and several tiles change nothing; nor do splitting the queries, or threads."""
    random = np.random.default_rng(bits)
    codes, queries = some_codes(random, 9000, bits), some_codes(random, 70, bits)
    distances, ids = HammingIndex(codes, threads=1).search(queries, 10)
    words = np.bitwise_count(queries[:, None, :] ^ codes[None, :, :]).sum(axis=2, dtype=np.int64)
    keys = np.sort(words * len(codes) + np.arange(len(codes)), axis=1)[:, :10]
    np.testing.assert_array_equal(distances, keys // len(codes))
    np.testing.assert_array_equal(ids, keys % len(codes))
    other = HammingIndex(codes, threads=2)
    parts = [other.search(part, 10) for part in np.split(queries, [0, 1, 3, 64])]
    np.testing.assert_array_equal(np.concatenate([d for d, _ in parts]), distances)
    np.testing.assert_array_equal(np.concatenate([i for _, i in parts]), ids)


@pytest.mark.usefixtures("tiles")
def test_rows_that_come_nearer_and_nearer_are_all_found():
    """The worst order for a running limit, the farthest row first, gives the same answer."""
    bits = np.tri(65, 64, -1, dtype=np.uint8)[::-1].repeat(40, axis=0)
    distances, ids = HammingIndex(np.packbits(bits, axis=1)).search(np.zeros((1, 8), np.uint8), 50)
    assert distances[0].tolist() == [0] * 40 + [1] * 10
    assert ids[0].tolist() == [*range(2560, 2600), *range(2520, 2530)]


@pytest.mark.parametrize("k", [1, 3, 100, 2999, 3000])
@pytest.mark.parametrize("bits", [16, 32, 64, 96, 192, 512, 1024])
def test_both_kernels_agree(bits, k, monkeypatch):
    """Whatever the width and k, also where most rows are tied, and in a part of the rows."""
    if not hamming_native.available():
        pytest.skip("the C kernel was not compiled here")
    monkeypatch.setattr(hamming_native, "_TILE_BYTES", 2**12)
    random = np.random.default_rng(bits)
    codes = random.integers(0, 3, (3001, bits // 8), dtype=np.uint8)
    words, queries = words_of(codes), words_of(codes[:20] ^ 1)
    for part in (words[:, :3000], words[:, 1:]):
        for mine, theirs in zip(
            hamming_native.nearest(queries, part, k), hamming_plain.nearest(queries, part, k), strict=True
        ):
            np.testing.assert_array_equal(mine, theirs)
        for radius in (0, bits // 8, 5000):
            np.testing.assert_array_equal(
                hamming_native.within(queries, part, radius), hamming_plain.within(queries, part, radius)
            )


def test_c_refuses_words_that_lie_otherwise():
    """Words in another order in memory are an error, and are not read as if they were in this one."""
    if not hamming_native.available():
        pytest.skip("the C kernel was not compiled here")
    words = words_of(np.zeros((5, 16), np.uint8))
    with pytest.raises(ValueError, match="side by side"):
        hamming_native.nearest(words, np.asfortranarray(words), 1)


@pytest.mark.parametrize("threads", [2, 3, 7])
@pytest.mark.parametrize("asked", [1, 5, 40])
@pytest.mark.usefixtures("kernel")
def test_splitting_by_rows_changes_nothing(asked, threads, monkeypatch):
    """A few queries are split by rows and many by queries; distances, ties and order are those of one thread."""
    monkeypatch.setattr(hamming_search, "_ROWS_EACH", 50)
    random = np.random.default_rng(asked)
    codes = random.integers(0, 2, (1000, 8), dtype=np.uint8)
    queries = codes[:asked]
    one, many = HammingIndex(codes, threads=1), HammingIndex(codes, threads=threads)
    for k in (1, 20, 400):
        for mine, theirs in zip(many.search(queries, k), one.search(queries, k), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    for mine, theirs in zip(many.range_search(queries, 4), one.range_search(queries, 4), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("bits", WIDTHS)
def test_the_greatest_distance_is_counted(bits):
    """A code and its complement differ in every bit."""
    codes = np.zeros((3, bits // 8), np.uint8)
    distances, ids = HammingIndex(codes).search(~codes, 3)
    assert distances.tolist() == [[bits] * 3] * 3
    assert ids.tolist() == [[0, 1, 2]] * 3


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("kind", ["int", "str"])
@pytest.mark.parametrize("bits", WIDTHS)
def test_filters_are_complete(bits, kind):
    """Search among allowed rows equals search in an index of those rows only, by mask or by ids."""
    random = np.random.default_rng(bits)
    codes, queries = some_codes(random, 50, bits), some_codes(random, 5, bits)
    index = HammingIndex(codes, some_ids(random, 50, kind), threads=2)
    for share in (0.0, 0.4, 1.0):
        mask = random.random(50) < share
        chosen = index.ids[mask]
        expected = oracle(queries, codes[mask], chosen.tolist(), 8)
        for given_filter in ({"mask": mask}, {"allowed": chosen[::-1]}, {"allowed": chosen.repeat(2)}):
            distances, ids = index.search(queries, 8, **given_filter)
            assert (distances.tolist(), ids.tolist()) == expected
            lims, distances, ids = index.range_search(queries, bits, **given_filter)
            assert lims.tolist() == [len(chosen) * i for i in range(6)]
            assert set(ids.tolist()) == set(chosen.tolist())


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("bits", WIDTHS)
def test_range_search_equals_the_oracle(bits, threads):
    """Everyone within the radius, the radius included, and nobody else."""
    random = np.random.default_rng(bits)
    for rows, asked in ((0, 0), (0, 3), (40, 0), (40, 7)):
        codes, queries = some_codes(random, rows, bits), some_codes(random, asked, bits)
        index = HammingIndex(codes, some_ids(random, rows, "str"), threads=threads)
        for radius in (0, bits // 2, bits, 5000):
            lims, distances, ids = index.range_search(queries, radius)
            assert (lims.dtype, distances.dtype, len(lims)) == (np.int64, np.int32, asked + 1)
            all_d, all_i = oracle(queries, codes, index.ids.tolist(), rows)
            for at in range(asked):
                near = [pair for pair in zip(all_d[at], all_i[at], strict=True) if pair[0] <= radius]
                part = slice(lims[at], lims[at + 1])
                assert list(zip(distances[part].tolist(), ids[part].tolist(), strict=True)) == near


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize(("kind", "threads"), [("none", 2), ("str", 1)])
@pytest.mark.parametrize("bits", WIDTHS)
def test_pairs_are_found_once(bits, kind, threads):
    """Every unordered pair within the radius comes once, the earlier row first, in blocks of bounded size."""
    random = np.random.default_rng(bits)
    for rows in (0, 1, 45):
        codes = some_codes(random, rows, bits)
        index = HammingIndex(codes, some_ids(random, rows, kind), threads=threads)
        truth = all_distances(codes, codes)
        for radius in (0, bits // 2, bits):
            blocks = list(index.pairs_within(radius))
            found = [row for b in blocks for row in zip(b.rows_a.tolist(), b.rows_b.tolist(), b.distances, strict=True)]
            expected = {(a, b, truth[a, b]) for a in range(rows) for b in range(a + 1, rows) if truth[a, b] <= radius}
            assert len(found) == len(expected)
            assert set(found) == expected
            for block in blocks:
                assert 0 < len(block.rows_a) <= hamming_search._PAIR_QUERIES * hamming_search._PAIR_ROWS
                np.testing.assert_array_equal(block.ids_a, index.ids[block.rows_a])
                np.testing.assert_array_equal(block.ids_b, index.ids[block.rows_b])


@pytest.mark.usefixtures("kernel")
def test_pairs_can_be_left_half_way():
    """Whoever stops asking gets no error, and what was not asked for is not computed."""
    index = HammingIndex(np.zeros((3000, 8), np.uint8), threads=2)
    pairs = index.pairs_within(0)
    assert len(next(pairs).rows_a) > 0
    pairs.close()


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("kind", ["int", "str"])
@pytest.mark.parametrize("bits", WIDTHS)
def test_neighbors_of_all_leave_out_oneself(bits, kind):
    """Each row's neighbors are those of an index without the row, though it has many twins."""
    random = np.random.default_rng(bits)
    for rows in (0, 1, 2, 30):
        codes = some_codes(random, rows, bits)
        index = HammingIndex(codes, some_ids(random, rows, kind), threads=2)
        for k in (0, 1, 3, rows, rows + 5):
            distances, ids = index.neighbors_of_all(k)
            assert distances.shape == ids.shape == (rows, min(k, max(rows - 1, 0)))
            for row in range(rows):
                others = np.arange(rows) != row
                expected = oracle(codes[row : row + 1], codes[others], index.ids[others].tolist(), k)
                assert (distances[row : row + 1].tolist(), ids[row : row + 1].tolist()) == expected


@pytest.mark.parametrize("chosen", KERNELS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_history_equals_a_fresh_index(chosen, data):
    """After any adding, removing, saving and loading the index answers as one made of the rows that are left."""
    width, words = data.draw(st.sampled_from([2, 3, 8, 33])), data.draw(st.booleans())
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    name = (lambda i: f"{i}") if words else int
    left, index = {}, HammingIndex(np.empty((0, width), np.uint8), threads=1)
    for _ in range(data.draw(st.integers(0, 5))):
        new = {name(i): random.integers(0, 3, width, dtype=np.uint8) for i in random.integers(0, 50, 6)}
        new = {key: code for key, code in new.items() if key not in left}
        index.add(np.array([*new.values()], np.uint8).reshape(-1, width), np.array([*new]) if new else None)
        left |= new
        gone = data.draw(st.lists(st.sampled_from(sorted(left)), unique=True)) if left else []
        index.remove(np.array(gone))
        left = {key: code for key, code in left.items() if key not in gone}
    codes = np.array([*left.values()], np.uint8).reshape(-1, width)
    queries = random.integers(0, 3, (3, width), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        if KERNELS[chosen].available():
            patch.setattr(hamming, "_kernel", KERNELS[chosen])
        distances, ids = index.search(queries, 5)
    assert (distances.tolist(), ids.tolist()) == oracle(queries, codes, [*left], 5)
    assert len(index) == len(left)
    assert index.ids.tolist() == [*left]
    np.testing.assert_array_equal(index.codes, codes)


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("kind", ["none", "int", "str"])
@pytest.mark.parametrize("bits", WIDTHS)
def test_a_saved_index_answers_the_same(tmp_path, bits, kind, mmap):
    """Loading gives the same rows, ids and answers; the loaded index can be changed and saved over itself."""
    random = np.random.default_rng(bits)
    queries = some_codes(random, 4, bits)
    for rows in (0, 20):
        index = HammingIndex(some_codes(random, rows, bits), some_ids(random, rows, kind))
        index.save(tmp_path / "index")
        loaded = HammingIndex.load(tmp_path / "index", mmap=mmap, threads=2)
        for turn in range(2):
            np.testing.assert_array_equal(loaded.codes, index.codes)
            np.testing.assert_array_equal(loaded.ids, index.ids)
            for mine, theirs in zip(loaded.search(queries, 9), index.search(queries, 9), strict=True):
                np.testing.assert_array_equal(mine, theirs)
            for changed in (index, loaded):
                changed.remove(changed.ids[3:5])
                changed.add(queries[:2], None if kind != "str" else np.array([f"x{turn}", f"a{turn}"]))
            loaded.save(tmp_path / "index")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["index"]


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("mmap", [True, False])
def test_a_file_in_another_order_is_read_right(tmp_path, mmap):
    """NumPy files may be in Fortran's order; the answers are the same."""
    codes = some_codes(np.random.default_rng(0), 30, 256)
    index = HammingIndex(codes)
    index.save(tmp_path / "index")
    np.save(tmp_path / "index" / "words.npy", np.asfortranarray(np.load(tmp_path / "index" / "words.npy")))
    loaded = HammingIndex.load(tmp_path / "index", mmap=mmap)
    for mine, theirs in zip(loaded.search(codes, 30), index.search(codes, 30), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_ids_are_not_given_twice(tmp_path):
    """A new row gets the id of no row that was removed, though the index was saved in between."""
    codes = np.zeros((2, 2), np.uint8)
    index = HammingIndex(codes)
    index.remove(np.array([1]))
    index.save(tmp_path / "index")
    index = HammingIndex.load(tmp_path / "index")
    index.add(codes)
    assert index.ids.tolist() == [0, 2, 3]


def test_arrays_of_the_caller_are_not_shared():
    """Changing the arrays afterwards changes nothing in the index."""
    codes, ids = np.zeros((2, 8), np.uint8), np.array([5, 6])
    index = HammingIndex(codes, ids)
    codes[:], ids[:] = 255, 9
    index.ids[:] = 7
    assert index.codes.max() == 0
    assert index.ids.tolist() == [5, 6]


CODES = np.arange(32, dtype=np.uint8).reshape(4, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda index: index.search(CODES[:, :7], 1), "7 bytes; 8"),
        (lambda index: index.search(CODES.astype(np.int8), 1), "int8"),
        (lambda index: index.search(CODES[0], 1), "shape"),
        (lambda index: index.search(CODES.tolist(), 1), "list"),
        (lambda index: index.search(CODES, -1), "k is -1"),
        (lambda index: index.search(CODES, 1.0), "k is 1.0"),
        (lambda index: index.neighbors_of_all(-2), "k is -2"),
        (lambda index: index.range_search(CODES, -3), "radius is -3"),
        (lambda index: index.pairs_within(-3), "radius is -3"),
        (lambda index: index.search(CODES, 1, mask=np.ones(3, bool)), "mask is bool"),
        (lambda index: index.search(CODES, 1, mask=[1, 2]), "mask is list"),
        (lambda index: index.search(CODES, 1, mask=np.ones(4, bool), allowed=[1]), "give one"),
        (lambda index: index.search(CODES, 1, allowed=np.array([2, 9])), r"\[9\]"),
        (lambda index: index.search(CODES, 1, allowed=np.array(["2"])), "'2'"),
        (lambda index: index.remove(np.array([7])), r"\[7\]"),
        (lambda index: index.remove(np.array([0.5])), "float64"),
        (lambda index: index.add(CODES, np.array(["a", "b", "c", "d"])), "one kind"),
        (lambda index: index.add(CODES, np.array([8, 9, 3, 10])), "id 3 is there twice"),
        (lambda index: index.add(CODES, np.array([8, 9])), "2 ids for 4"),
        (lambda index: index.add(CODES[:, :2]), "2 bytes; 8"),
        (lambda index: index.save(__file__), "no HammingIndex"),
        (lambda _: HammingIndex(CODES, np.array([1, 2, 2, 3])), "id 2 is there twice"),
        (lambda _: HammingIndex(CODES, np.array(["a", "b", "a", "c"])), "'a' is there twice"),
        (lambda _: HammingIndex(CODES, np.array([1, 2, 3, 4], np.int32)), "int32"),
        (lambda _: HammingIndex(CODES, np.array(["a", "b", "c", "d"], object)), "object"),
        (lambda _: HammingIndex(np.zeros((1, 1), np.uint8)), "2 to 128"),
        (lambda _: HammingIndex(np.zeros((0, 129), np.uint8)), "2 to 128"),
        (lambda _: HammingIndex(CODES, threads=0), "0 threads"),
    ],
)
def test_bad_input_is_refused(call, message):
    """What was given is said, and the index is as before."""
    index = HammingIndex(CODES)
    with pytest.raises(SearchError, match=message):
        call(index)
    np.testing.assert_array_equal(index.codes, CODES)
    assert index.ids.tolist() == [0, 1, 2, 3]


def test_strings_are_not_counted_on():
    """An index with string ids wants an id for each new code."""
    index = HammingIndex(CODES, np.array(["a", "b", "c", "d"]))
    with pytest.raises(SearchError, match="are strings"):
        index.add(CODES)


def damaged(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def header(**changes):
    def write(folder):
        path = folder / "header.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return write


def arrays(name, array):
    return lambda folder: np.save(folder / name, array)


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "header.json").unlink(), "no HammingIndex"),
        (lambda folder: (folder / "words.npy").unlink(), r"words\.npy cannot be read"),
        (damaged("header.json", b"{"), "damaged"),
        (damaged("header.json", b"\xff\xfe"), "damaged"),
        (damaged("header.json", b"[]"), "no HammingIndex"),
        (damaged("words.npy", b""), r"words\.npy cannot be read"),
        (damaged("ids.npy", b"cos\nsystem\n(S'false'\ntR."), r"ids\.npy cannot be read"),
        (header(format="faiss"), "no HammingIndex"),
        (header(version=2), "version 2"),
        (header(rows=3), "words.npy holds"),
        (header(rows=-1), "lacks a size"),
        (header(bytes=16), "words.npy holds"),
        (header(bytes=1), "2 to 128"),
        (header(next_id="x"), "lacks a size"),
        (arrays("words.npy", np.zeros((1, 4))), "words.npy holds float64"),
        (arrays("ids.npy", np.zeros(4, np.int64)), "id 0 is there twice"),
        (arrays("ids.npy", np.arange(3)), "3 ids for 4"),
        (arrays("ids.npy", np.zeros(4)), "float64"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, damage, message, mmap):
    """Whatever is wrong with a saved index, the error names it; nothing is ever unpickled."""
    HammingIndex(CODES).save(tmp_path / "index")
    damage(tmp_path / "index")
    with pytest.raises(SearchError, match=message):
        HammingIndex.load(tmp_path / "index", mmap=mmap)
