from __future__ import annotations

import csv

import cv2
import numpy as np
import onnx
import pytest

from imagelake.errors import ModelError
from imagelake.models import zoo
from imagelake.models.efficientnet_lite0 import build as builder
from imagelake.models.efficientnet_lite0.agreement import LOWEST_MEAN_COSINE, mean_cosine, measure, probe_pictures
from imagelake.models.efficientnet_lite0.architecture import layers, same_padding
from imagelake.models.efficientnet_lite0.graph import OUTPUTS, build_fp32
from imagelake.models.efficientnet_lite0.quantize import build_int8, quantize_kernel, read_ranges
from imagelake.models.efficientnet_lite0.weights import Weights
from imagelake.models.onnx_runtime import SessionSettings, open_session
from imagelake.pixels.fit import fit

MEAN, STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)
TWO_THREADS = SessionSettings(threads=2)


@pytest.fixture(scope="module")
def exact(weights):
    return open_session(build_fp32(weights, (224, 224), MEAN, STD, OUTPUTS), TWO_THREADS)


@pytest.fixture(scope="module")
def rounded(weights):
    return open_session(build_int8(weights, (224, 224), MEAN, STD, OUTPUTS), TWO_THREADS)


def test_layers_are_those_of_the_paper():
    """Stem, 16 blocks (the first without expansion), head: 49 convolutions, 9 sums."""
    assert len(layers()) == 1 + 16 * 3 - 1 + 1
    assert sum(layer.adds is not None for layer in layers()) == 9
    assert len({layer.name for layer in layers()}) == len(layers())


@pytest.mark.parametrize("size", range(1, 40))
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2)])
def test_same_padding_gives_the_ceiling(size, kernel, stride):
    """`ceil(size / stride)` pixels come out, and the odd pixel of padding goes after."""
    before, after = same_padding(size, kernel, stride)
    assert (size + before + after - kernel) // stride + 1 == -(-size // stride)
    assert 0 <= after - before <= 1


@pytest.mark.parametrize("name", ["chelsea", "coffee", "rocket"])
@pytest.mark.parametrize("precision", ["exact", "rounded"])
def test_photos_are_classified(request, photos, precision, name):
    """Both graphs see a cat, a cup of coffee and a rocket in the photos of them."""
    picture, classes = photos[name]
    pixels = fit(picture, (224, 224), "crop")[None]
    logits = request.getfixturevalue(precision).run(["logits"], pixels)["logits"][0]
    assert int(logits.argmax()) in classes


def test_outputs_fit_together(exact, photos):
    """Pooled features are the mean and the maximum of the feature map, within ReLU6's bounds."""
    pixels = np.stack([fit(p, (224, 224), "squash") for p, _ in photos.values()])
    found = exact.run(OUTPUTS, pixels)
    assert found["logits"].shape == (3, 1000)
    assert found["feature_map"].shape == (3, 1280, 7, 7)
    assert found["feature_map"].min() >= 0
    assert found["feature_map"].max() <= 6
    np.testing.assert_allclose(found["features_avg"], found["feature_map"].mean(axis=(2, 3)), atol=1e-5)
    np.testing.assert_array_equal(found["features_max"], found["feature_map"].max(axis=(2, 3)))


@pytest.mark.parametrize("build", [build_fp32, build_int8])
@pytest.mark.parametrize("size_wh", [(32, 32), (33, 65), (97, 50)])
def test_odd_sizes_work(weights, build, size_wh):
    """Any width and height give a feature map of a 32nd of it, rounded up, and batches of any length but none."""
    width, height = size_wh
    runtime = open_session(build(weights, size_wh, MEAN, STD, ("feature_map",)))
    for count in (1, 3):
        pixels = probe_pictures(size_wh, count)
        found = runtime.run(["feature_map"], pixels)["feature_map"]
        assert found.shape == (count, 1280, -(-height // 32), -(-width // 32))


def test_the_padding_is_that_of_a_plain_convolution(weights):
    """The stem agrees with a convolution written out, at an odd and an even size."""
    for size in (32, 33):
        pixels = probe_pictures((size, size), 1)
        runtime = open_session(build_fp32(weights, (size, size), MEAN, STD, ("stem",)))
        stem = runtime.run(["stem"], pixels)["stem"][0]
        normalized = (pixels[0].astype(np.float32) - 127) / 128
        before, after = same_padding(size, 3, 2)
        padded = np.pad(normalized, ((before, after), (before, after), (0, 0)))
        kernel, bias = weights.kernels["stem"], weights.biases["stem"]
        for row, column in ((0, 0), (3, 7), (stem.shape[1] - 1, stem.shape[2] - 1)):
            patch = padded[2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            expected = np.einsum("hwc,ochw->o", patch, kernel) + bias
            np.testing.assert_allclose(stem[:, row, column], expected.clip(0, 6), atol=1e-4)


def test_an_unknown_output_is_refused(weights):
    """The message lists the outputs."""
    for outputs in ((), ("embedding",)):
        with pytest.raises(ModelError, match="features_avg"):
            build_fp32(weights, (32, 32), MEAN, STD, outputs)


def test_a_graph_has_only_the_wanted_outputs(weights):
    """Features need no classifier."""
    model = onnx.load_from_string(build_fp32(weights, (32, 32), MEAN, STD, ("features_max",)))
    assert [o.name for o in model.graph.output] == ["features_max"]
    assert not {"Gemm", "GlobalAveragePool"} & {n.op_type for n in model.graph.node}


@pytest.mark.parametrize("build", [build_fp32, build_int8])
def test_the_same_weights_give_the_same_file(weights, build):
    """A graph is a function of its arguments, byte for byte."""
    assert build(weights, (64, 64), MEAN, STD) == build(weights, (64, 64), MEAN, STD)


def test_int8_is_integers_from_the_pixels_on(weights):
    """Every convolution is a QLinearConv, and nothing quantises the input."""
    model = onnx.load_from_string(build_int8(weights, (64, 64), MEAN, STD))
    kinds = [n.op_type for n in model.graph.node]
    assert kinds.count("QLinearConv") == len(layers())
    assert not {"Conv", "QuantizeLinear", "Clip"} & set(kinds)


def test_int8_needs_one_whole_mean(weights):
    """The pixels are the quantised tensor only with one scale and a zero point among 0..255."""
    for mean, std in (((1.0, 2.0, 3.0), STD), ((0.5,) * 3, STD), ((-1.0,) * 3, STD), (MEAN, (1.0, 2.0, 3.0))):
        with pytest.raises(ModelError, match="fp32"):
            build_int8(weights, (64, 64), mean, std)


def test_every_tensor_has_a_range():
    """The ranges that come with the package are those of this architecture."""
    assert set(read_ranges()) == {name for layer in layers() for name in (layer.name, layer.output)}


def test_a_missing_range_is_named(weights):
    """Ranges of another architecture are refused."""
    with pytest.raises(ModelError, match="stem"):
        build_int8(weights, (64, 64), MEAN, STD, ranges={})


def test_kernels_come_back_within_half_a_step():
    """`scale * q` is the kernel to half a scale, a channel of zeros included, and the bias fits."""
    kernel = np.random.default_rng(1).normal(size=(4, 3, 2, 2)).astype(np.float32)
    kernel[1] = 0
    kernel[2] *= 1e-12
    whole, scales, bias = quantize_kernel(kernel, np.array([0, 0, 3, 1], np.float32), 0.01)
    assert np.abs(whole * scales[:, None, None, None] - kernel).max(axis=(1, 2, 3)).max() <= scales.max() * 0.501
    np.testing.assert_allclose(bias * scales * 0.01, [0, 0, 3, 1], atol=1e-3)


def test_int8_agrees_on_photos(exact, rounded, photos):
    """Crops of real photos have the same direction in int8 and in fp32: mean cosine 0.985 and more."""
    pixels = np.stack([fit(p, (224, 224), how) for p, _ in photos.values() for how in ("squash", "crop", "letterbox")])
    one, other = (r.run(["features_avg"], pixels)["features_avg"] for r in (exact, rounded))
    assert mean_cosine(one, other) > 0.985


def test_int8_agrees_on_products(exact, rounded, products_folder):
    """Real product photos: mean cosine above 0.985, and the same best class in more than 85 of 100."""
    with (products_folder / "labels.csv").open(newline="") as file:
        names = [row["image"] for row in csv.DictReader(file)][::10]
    decoded = [cv2.imread(str(products_folder / "images" / name))[..., ::-1] for name in names]
    pixels = np.stack([fit(np.ascontiguousarray(p), (224, 224), "squash") for p in decoded])
    one, other = (r.run(["logits", "features_avg"], pixels) for r in (exact, rounded))
    assert mean_cosine(one["features_avg"], other["features_avg"]) > 0.985
    assert np.mean(one["logits"].argmax(axis=1) == other["logits"].argmax(axis=1)) > 0.85


def test_probe_pictures_tell_sound_graphs_from_broken_ones(exact, rounded, weights):
    """Sound int8 passes the threshold in every output; with ranges that are far too small it does not."""
    for output in OUTPUTS:
        assert measure(exact, rounded, output, (224, 224)) > LOWEST_MEAN_COSINE
    small = {name: (low / 4, high / 4) for name, (low, high) in read_ranges().items()}
    broken = open_session(build_int8(weights, (224, 224), MEAN, STD, ranges=small))
    assert measure(exact, broken, "features_avg", (224, 224)) < LOWEST_MEAN_COSINE


def test_a_broken_int8_graph_is_refused(monkeypatch, weights):
    """What disagrees with fp32 is not handed out; the message gives both figures and the way back."""
    kernels = {name: kernel[::-1].copy() for name, kernel in weights.kernels.items()}
    wrong = Weights(kernels, weights.biases, weights.classifier, weights.classifier_bias)
    monkeypatch.setattr(builder, "build_int8", lambda _weights, *rest: build_int8(wrong, *rest))
    manifest = zoo.manifest("efficientnet-lite0", precision="int8", input_size=64)
    with pytest.raises(ModelError, match="use precision fp32"):
        builder.build(manifest, zoo.find_weights(manifest), ("features_avg",))


def test_mean_cosine_of_nothing_alike():
    """Same direction 1, opposite -1, zeros 0."""
    one = np.array([[1.0, 0.0]], np.float32)
    assert mean_cosine(one, 3 * one) == pytest.approx(1)
    assert mean_cosine(one, -one) == pytest.approx(-1)
    assert mean_cosine(one, 0 * one) == 0
