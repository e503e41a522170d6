"""Encoded pictures of a request: prepared as if they were decoded by hand, beside tensors and never among them."""

import concurrent.futures
import io

import numpy as np
import pytest
from PIL import Image

from imagelake.errors import ImageError, InputError
from imagelake.pixels.decode import decode_rgb
from imagelake.pixels.thumbnail import encode_jpeg
from imagelake.serve.picture_input import PictureReader, gray_picture
from imagelake.serve.plane import BatchOptions, Plane
from imagelake.serve.served_models import open_served
from pictures import every_picture, scene
from tiny_models import mean_color

WAIT_S = 60


def as_it_is(image_rgb):
    return image_rgb


def strings(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_no_pictures_are_nothing():
    """0 pictures are read as none."""
    assert PictureReader(as_it_is, 100).read([]) == []


def test_every_format_is_read():
    """Whatever the lake takes in, a request may hold."""
    reader = PictureReader(as_it_is, 1_000_000)
    for encoded in every_picture().values():
        (read,) = reader.read([encoded])
        np.testing.assert_array_equal(read, decode_rgb(encoded))


def test_a_large_picture_is_decoded_small():
    """A JPEG far larger than the model needs comes at a fraction of its size, never below what is needed."""
    (read,) = PictureReader(as_it_is, 200).read([encode_jpeg(scene(3200, 1700))])
    assert read.shape == (213, 400, 3)


def test_an_error_of_preparing_names_its_picture():
    """What cannot be prepared is an error of the input, by its place."""

    def refuse(_image_rgb):
        raise InputError("too narrow")

    with pytest.raises(InputError, match="picture 0 cannot be used: too narrow"):
        PictureReader(refuse, 10).read([gray_picture()])


def test_a_header_that_lies_is_an_error():
    """A file that says it is huge, and is cut off, is refused without its memory."""
    out = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(out, "PNG")
    for encoded in (out.getvalue(), out.getvalue()[:100]):
        with pytest.raises(ImageError):
            PictureReader(as_it_is, 10).read([encoded])


def test_pictures_and_tensors_do_not_mix(tmp_path):
    """Requests of both kinds at once are each answered as alone, in runs of their own."""
    model = mean_color(tmp_path)
    served = open_served(model)
    encoded = [encode_jpeg(np.roll(scene(90, 70), seed * 13, 1)) for seed in range(8)]
    with Plane() as plane:
        plane.load(served, BatchOptions(instances=2, max_batch=4))
        alone = [plane.infer("mean-color", {"pixels": strings(each)})["embedding"] for each in encoded]
        tensors = [np.full((1, 3, 8, 8), seed, np.float32) for seed in range(8)]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            both = [*(strings(each) for each in encoded), *tensors] * 4
            calls = [pool.submit(plane.infer, "mean-color", {"pixels": each}, timeout_s=WAIT_S) for each in both]
            found = [call.result(WAIT_S)["embedding"] for call in calls]
    for start in range(0, len(found), 16):
        np.testing.assert_allclose(np.concatenate(found[start : start + 8]), np.concatenate(alone), rtol=1e-6)
        assert [row.tolist() for row in found[start + 8 : start + 16]] == [[[seed] * 3] for seed in range(8)]
