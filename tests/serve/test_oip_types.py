"""The datatypes of the Open Inference Protocol: there and back, and what is refused."""

import struct
import tracemalloc

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagelake.errors import InputError
from imagelake.serve.oip_types import DTYPES, checked_shape, datatype_of, dtype_of, from_raw, from_values, to_raw

NUMBERS = [name for name in DTYPES if name != "BYTES"]
shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
numbers = st.sampled_from(NUMBERS).flatmap(lambda name: arrays.arrays(DTYPES[name], shapes))
words = arrays.arrays(object, shapes, elements=st.binary(max_size=9))


@given(st.one_of(numbers, words))
def test_raw_bytes_give_the_tensor_back(array):
    """from_raw(to_raw(a)) is a, bit by bit, for every type and shape."""
    datatype = datatype_of(array.dtype)
    raw = bytes(to_raw(array))
    found = from_raw(raw, datatype, array.shape)
    assert found.shape == array.shape
    assert found.dtype == array.dtype
    if datatype == "BYTES":
        assert found.tolist() == array.tolist()
    else:
        assert found.tobytes() == array.tobytes() == raw


@given(st.one_of(numbers, words))
def test_flat_values_give_the_tensor_back(array):
    """from_values(a.ravel().tolist()) is a, for every type and shape."""
    found = from_values(array.ravel().tolist(), datatype_of(array.dtype), array.shape)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("datatype", DTYPES)
def test_names_of_types_are_those_of_numpy(datatype):
    """datatype_of and dtype_of undo each other, whatever the byte order; strings are BYTES."""
    dtype = dtype_of(datatype)
    assert datatype_of(dtype) == datatype_of(dtype.name) == datatype_of(dtype.newbyteorder()) == datatype
    assert datatype_of("S3") == datatype_of("U3") == "BYTES"


def test_big_endian_and_strided_arrays_are_sent_little_endian_and_row_major():
    """The bytes depend on the values, not on how they lie in memory."""
    array = np.arange(6, dtype="<i4").reshape(2, 3)
    assert bytes(to_raw(array.astype(">i4"))) == bytes(to_raw(np.asfortranarray(array))) == array.tobytes()
    assert bytes(to_raw(array[:, ::-2])) == np.array([2, 0, 5, 3], "<i4").tobytes()


def test_numbers_are_views():
    """No byte of a tensor of numbers is copied, neither in nor out."""
    body = bytearray(16)
    array = from_raw(memoryview(body)[8:], "FP32", [2])
    body[8:12] = struct.pack("<f", 2.5)
    assert array[0] == 2.5
    assert np.shares_memory(np.frombuffer(to_raw(array), np.uint8), array)


@pytest.mark.parametrize(
    ("data", "datatype", "shape", "words"),
    [
        (b"", "FP32", [1], "0 bytes.*4"),
        (b"12345", "FP32", [1], "5 bytes.*4"),
        (b"1234", "BF16", [2], "BF16.*FP32 or FP16"),
        (b"1234", "FP8", [4], "'FP8'.*BOOL, UINT8"),
        (b"1234", None, [4], "NoneType"),
        (b"1234", ["FP32"], [4], "list"),
        (b"\x02", "BOOL", [1], "other than 0 and 1"),
        (b"", "INT8", [-1], "-1"),
        (b"", "INT8", [True], "True"),
        (b"", "INT8", [1.0], "1.0"),
        (b"", "INT8", ["1"], "'1'"),
        (b"", "INT8", [1] * 33, "33 sides"),
        (b"", "INT8", [2**4, 2**60 + 2], "2,147,483,648"),
        (b"", "INT8", [2**32, 2**32], "2,147,483,648"),
        (b"", "INT8", [0, 2**62], "2,147,483,648"),
        (b"", "INT8", [10**5000], "2,147,483,648"),
        (b"", "BYTES", [2**31], "length alone"),
        (b"\1\0\0", "BYTES", [1], "length alone"),
        (b"\1\0\0\0", "BYTES", [1], "Element 0.*beyond its 4 bytes"),
        (b"\xff\xff\xff\xff", "BYTES", [1], "beyond its 4 bytes"),
        (b"\4\0\0\0abcd", "BYTES", [2], "Element 1.*beyond"),
        (b"\0\0\0\0", "BYTES", [0], "4 bytes after its 0 elements"),
        (b"\0\0\0\0a", "BYTES", [1], "1 bytes after"),
    ],
)
def test_raw_bytes_that_do_not_fit_are_refused(data, datatype, shape, words):
    """The message says what was given and what is allowed; nothing is made before the sizes are checked."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=words) as caught:
            from_raw(data, datatype, shape, "x")
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("values", "datatype", "words"),
    [
        ([1e300], "FP32", "range of FP32"),
        ([70000], "FP16", "range of FP16"),
        ([10**400], "FP64", "range of FP64"),
        ([256], "UINT8", "range of UINT8"),
        ([-1], "UINT64", "range of UINT64"),
        ([2**63], "INT64", "range of INT64"),
        ([1.5], "INT32", "another type: float"),
        ([True], "INT32", "another type: bool"),
        (["1"], "FP32", "another type: str"),
        ([None, [1]], "FP32", "another type"),
        ([None], "FP32", "null"),
        ([2], "BOOL", "other than 0 and 1"),
        ([1.0], "BOOL", "float"),
        ([1], "BYTES", "element of type int"),
        (["\ud800"], "BYTES", "no Unicode"),
    ],
)
def test_values_of_another_type_or_beyond_the_range_are_refused(values, datatype, words):
    """No value becomes another one: none is cut, wrapped, parsed or taken for a truth value."""
    with pytest.raises(InputError, match=words):
        from_values(values, datatype, [len(values)], "x")


def test_counts_of_values_must_fit_the_shape():
    """Neither fewer nor more; a scalar is one; a side of 0 is none."""
    assert from_values([3], "INT8", []).shape == ()
    assert from_values([], "INT8", [0, 3]).shape == (0, 3)
    for values, shape in ([], []), ([1], [0]), ([1, 2], [3]):
        with pytest.raises(InputError, match="values; the shape"):
            from_values(values, "INT8", shape)


def test_not_finite_numbers_are_values():
    """NaN and infinities are carried, as gRPC does; only JSON cannot."""
    np.testing.assert_array_equal(from_values([float("nan"), float("-inf")], "FP32", [2]), [np.nan, -np.inf])


def test_types_that_the_protocol_lacks_are_refused():
    """Complex numbers and dates have no datatype."""
    for dtype in "complex64", "datetime64[s]":
        with pytest.raises(InputError, match="no datatype"):
            datatype_of(dtype)


def test_shapes_are_taken_as_they_are():
    """() is a scalar; a side of 0 is allowed."""
    assert checked_shape([]) == ()
    assert checked_shape([0, 5]) == (0, 5)
    assert checked_shape([1] * 32) == (1,) * 32
