from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from imagelake.errors import ImageError
from imagelake.pixels.decode import MAX_PIXELS, decode, decode_rgb, open_picture
from imagelake.pixels.pillow_door import quiet_warnings
from pictures import HEIGHT, WIDTH, every_picture, mean_difference, orientation_exif, png_chunk, ramp_16, save, scene

PICTURES = every_picture()


def on_white() -> np.ndarray:
    """The scene under an alpha that rises from left to right, on white."""
    alpha = np.linspace(0, 255, WIDTH).astype(np.uint8)[np.newaxis, :, np.newaxis] / 255
    return np.rint(scene() * alpha + 255 * (1 - alpha)).astype(np.uint8)


@pytest.mark.parametrize(("name", "data"), PICTURES.items())
def test_every_mode_becomes_upright_rgb(name, data):
    """Whatever the format and the mode, the header's size is that of the array, which is 8-bit RGB."""
    picture = open_picture(data)
    image_rgb = decode(picture)
    assert image_rgb.dtype == np.uint8
    assert image_rgb.shape == (picture.height, picture.width, 3)
    assert picture.format == name.split()[0]


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("jpeg RGB", 2),
        ("jpeg progressive", 2),
        ("jpeg CMYK", 3),
        ("png RGB", 0),
        ("png RGB16", 0.6),
        ("png animated", 0),
        ("gif animated", 12),
        ("webp RGB", 3),
        ("webp animated", 0),
        ("tiff RGB", 0),
        ("tiff lzw", 0),
        ("tiff CMYK", 1),
        ("tiff YCbCr", 2),
        ("tiff LAB", 3),
        ("tiff pages", 0),
        ("bmp RGB", 0),
        ("avif RGB", 3),
    ],
)
def test_colors_survive(name, tolerance):
    """Every color format gives the scene it was made from, of animations and documents the first one."""
    assert mean_difference(decode_rgb(PICTURES[name]), scene()) <= tolerance


@pytest.mark.parametrize(("name", "tolerance"), [("png RGBA", 0.6), ("webp RGBA", 0.6), ("avif RGBA", 4)])
def test_transparency_lies_on_white(name, tolerance):
    """What is transparent shows white and never the color hidden beneath."""
    assert open_picture(PICTURES[name]).has_alpha
    assert mean_difference(decode_rgb(PICTURES[name]), on_white()) <= tolerance


def test_a_transparent_color_lies_on_white():
    """A color declared transparent is white, in a palette as in RGB."""
    data = PICTURES["png RGB transparent"]
    assert open_picture(data).has_alpha
    assert decode_rgb(data)[0, 0].tolist() == [255, 255, 255]
    index = np.array(Image.open(io.BytesIO(PICTURES["png P transparent"])))
    assert (decode_rgb(PICTURES["png P transparent"])[index == 0] == 255).all()


@pytest.mark.parametrize("name", ["png I;16", "tiff I;16"])
def test_16_bit_gray_is_scaled_not_clipped(name):
    """A 16-bit sample becomes itself / 257."""
    expected = np.rint(ramp_16() / 257).astype(np.uint8)
    assert mean_difference(decode_rgb(PICTURES[name])[:, :, 1], expected) == 0


@pytest.mark.parametrize("name", ["tiff I", "tiff F"])
def test_wide_samples_are_stretched(name):
    """32-bit samples go linearly from their smallest to their largest."""
    gray = decode_rgb(PICTURES[name])[:, :, 0]
    assert (gray.min(), gray.max()) == (0, 255)
    assert (np.diff(gray.ravel().astype(int)) >= 0).all()


def test_floats_that_are_no_numbers_are_black():
    """Neither NaN nor infinity nor a flat picture breaks the stretch."""
    values = np.array([[np.nan, np.inf, 1.0], [2.0, -np.inf, 3.0]], np.float32)
    assert decode_rgb(save(Image.fromarray(values), "TIFF"))[:, :, 0].tolist() == [[0, 0, 0], [128, 0, 255]]
    assert decode_rgb(save(Image.fromarray(np.full((2, 2), 5, np.float32)), "TIFF")).max() == 0


def test_cmyk_with_an_unusable_profile_is_converted_plainly():
    """A profile that does not fit CMYK is passed over."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for wrong in (profile, b"no profile"):
        data = save(Image.fromarray(scene()).convert("CMYK"), "JPEG", quality=95, icc_profile=wrong)
        assert mean_difference(decode_rgb(data), scene()) <= 3


@pytest.mark.parametrize(
    ("name", "frames"), [("png RGB", 1), ("gif animated", 2), ("tiff pages", 3), ("webp animated", 2)]
)
def test_frames_are_counted(name, frames):
    """Animations and documents say how many pictures they hold."""
    assert open_picture(PICTURES[name]).frames == frames


def stored(orientation: int) -> Image.Image:
    """The scene, stored so that the orientation makes it upright."""
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = Image.fromarray(scene())
    return image.transpose(inverse[orientation]) if orientation in inverse else image


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_every_orientation_comes_out_upright(image_format, orientation):
    """The orientation is applied exactly once, in every format that has one."""
    options = {"exif": orientation_exif(orientation)}
    if image_format in {"JPEG", "WEBP", "AVIF"}:
        options["quality"] = 95
    data = save(stored(orientation), image_format, **options)
    picture = open_picture(data)
    assert (picture.width, picture.height, picture.orientation) == (WIDTH, HEIGHT, orientation)
    assert mean_difference(decode(picture), scene()) < 3


@pytest.mark.parametrize("orientation", [0, 9, 6_000])
def test_an_orientation_that_makes_no_sense_is_none(orientation):
    """Values outside 1 to 8 leave the picture as it is stored."""
    picture = open_picture(save(stored(1), "JPEG", exif=orientation_exif(orientation)))
    assert (picture.width, picture.orientation) == (WIDTH, 1)


@pytest.mark.parametrize(("min_side", "shorter"), [(None, 400), (400, 400), (201, 400), (200, 200), (90, 100), (1, 50)])
def test_a_jpeg_is_reduced_no_further_than_asked(min_side, shorter):
    """The shorter side never falls below `min_side`, and the reduced picture shows the same."""
    data = save(Image.fromarray(scene(600, 400)), "JPEG", exif=orientation_exif(6))
    image_rgb = decode_rgb(data, min_side)
    assert min(image_rgb.shape[:2]) == shorter
    whole = decode_rgb(data)
    assert mean_difference(image_rgb[-1, -1], whole[-1, -1]) < 12


def bomb(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(b"\x00"))
        + png_chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"<!doctype html><html>", "HTML"),
        (b"just words", "text, not a picture"),
        (bomb(60_000, 60_000), f"at most {MAX_PIXELS:,}"),
        (bomb(0, 10), ""),
        (PICTURES["jpeg RGB"][:-200], "truncated"),
        (PICTURES["jpeg RGB"][:60], "truncated"),
        (PICTURES["jpeg CMYK"][:-200], "truncated"),
        (PICTURES["png RGB"][: len(PICTURES["png RGB"]) // 2], "truncated"),
        (PICTURES["webp RGB"][: len(PICTURES["webp RGB"]) // 2], ""),
        (PICTURES["gif P"][:-500], "truncated"),
        (PICTURES["bmp RGB"][:-500], "truncated"),
        (PICTURES["tiff RGB"][:3000], ""),
        (PICTURES["avif RGB"][:-200], ""),
        (b"\xff\xd8\xff\xda\x00\x08", "frame header"),
    ],
)
def test_bad_pictures_say_why(data, word):
    """Every bad picture raises an `ImageError` whose message a person understands."""
    with pytest.raises(ImageError, match=r"\w") as caught:
        decode_rgb(data)
    assert word in str(caught.value)


@pytest.mark.parametrize("image_format", sorted({name.split()[0] for name in PICTURES}))
def test_every_format_finds_out_that_it_is_cut_off(image_format):
    """Half a file is refused, whatever the format."""
    data = PICTURES[f"{image_format} P" if image_format == "gif" else f"{image_format} RGB"]
    with pytest.raises(ImageError, match=r"truncated|broken"):
        decode_rgb(data[: len(data) // 2])


@pytest.mark.parametrize(
    "data",
    [
        b"II*\x00\x10\x00\x00\x00CR\x02\x00" + bytes(64),
        b"FUJIFILMCCD-RAW 0201" + bytes(64),
        b"\x00\x00\x00\x18ftypcrx \x00\x00\x00\x01crx isom",
        b"IIU\x00\x08\x00\x00\x00" + bytes(64),
    ],
)
def test_camera_raw_is_refused_by_name(data):
    """Raw files of Canon, Fujifilm and Panasonic are told from pictures."""
    with pytest.raises(ImageError, match="camera raw"):
        decode_rgb(data)


@pytest.mark.parametrize("tags", [{0xC612: b"\x01\x04\x00\x00"}, {0x00FE: 1, 0x014A: 8}])
def test_raw_files_that_are_tiff_are_refused(tags):
    """What a DNG, NEF or ARW holds as a TIFF is a tiny preview: it is not taken for the picture."""
    data = save(Image.fromarray(scene()), "TIFF", tiffinfo=tags)
    with pytest.raises(ImageError, match="camera raw"):
        decode_rgb(data)


def test_a_jpeg_bomb_is_refused_by_its_header():
    """A size above the limit is refused before anything is decoded."""
    data = bytearray(PICTURES["jpeg RGB"])
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    with pytest.raises(ImageError, match="65000 x 65000"):
        open_picture(bytes(data))


def test_warnings_of_other_threads_are_not_swallowed():
    """Only the thread inside `quiet_warnings` is quiet."""
    inside, done = threading.Event(), threading.Event()

    def stay_inside():
        with quiet_warnings():
            warnings.warn("swallowed", UserWarning, stacklevel=1)
            inside.set()
            done.wait(5)

    thread = threading.Thread(target=stay_inside)
    thread.start()
    inside.wait(5)
    with pytest.raises(UserWarning, match="heard"):
        warnings.warn("heard", UserWarning, stacklevel=1)
    done.set()
    thread.join()


def test_threads_decode_the_same():
    """Decoding in many threads gives what decoding in one gives."""
    expected = {name: decode_rgb(data) for name, data in PICTURES.items()}
    with ThreadPoolExecutor(8) as pool:
        for name, result in pool.map(lambda item: (item[0], decode_rgb(item[1])), list(PICTURES.items()) * 3):
            assert np.array_equal(result, expected[name])
