"""The layers of EfficientNet-Lite0 as a list, from which both graphs are built.

Source: M. Tan and Q. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
table 1, and the Lite variant in tensorflow/tpu, models/official/efficientnet/lite: no squeeze-and-excitation, ReLU6
everywhere, a stem of 32 and a head of 1,280 channels that are never scaled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# Raise it when a graph that is built from the same weights gives other numbers, and so too when
# activation_ranges.json changes.
GRAPH_VERSION = 1

NAME = "efficientnet-lite0"
FEATURE_CHANNELS = 1280
FEATURE_STRIDE = 32
CLASSES = 1000
BATCH_NORM_EPSILON = 1e-3
RELU6_MAX = 6.0

# Repeats, kernel, stride of the first, expansion, channels in, channels out.
_STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


@dataclass(frozen=True)
class Layer:
    """One convolution with its batch norm.

    Attributes:
        name: the name of the tensor that it gives.
        weight: the name of its kernel in the checkpoint.
        norm: the prefix of its batch norm in the checkpoint.
        shape: of the kernel: channels out, channels in of one group, height, width.
        stride: in pixels, both ways.
        groups: 1, or the number of channels for a depthwise convolution.
        clipped: whether ReLU6 follows.
        adds: the tensor that is added after it, or None.
    """

    name: str
    weight: str
    norm: str
    shape: tuple[int, int, int, int]
    stride: int = 1
    groups: int = 1
    clipped: bool = True
    adds: str | None = None

    @property
    def output(self) -> str:
        """The name of the tensor that the next layer takes: the sum where there is one."""
        return self.name if self.adds is None else f"{self.name}.sum"


def layers() -> tuple[Layer, ...]:
    """Every convolution, in order; each takes the output of the one before."""
    stem = Layer("stem", "_conv_stem.weight", "_bn0", (32, 3, 3, 3), stride=2)
    head = Layer("head", "_conv_head.weight", "_bn1", (FEATURE_CHANNELS, 320, 1, 1))
    return (stem, *_blocks(stem.output), head)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels of padding before and after, as TensorFlow's "SAME" has it: `ceil(size / stride)` pixels come out.

    >>> same_padding(224, 3, 2)
    (0, 1)
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _blocks(source: str) -> Iterator[Layer]:
    index = 0
    for repeats, kernel, first_stride, expansion, first_channels, channels_out in _STAGES:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            channels_in = first_channels if repeat == 0 else channels_out
            inner = channels_in * expansion
            prefix, name = f"_blocks.{index}.", f"block{index:02}"
            if expansion != 1:
                expand = (inner, channels_in, 1, 1)
                yield Layer(f"{name}.expand", prefix + "_expand_conv.weight", prefix + "_bn0", expand)
            yield Layer(
                f"{name}.depthwise",
                prefix + "_depthwise_conv.weight",
                prefix + "_bn1",
                (inner, 1, kernel, kernel),
                stride=stride,
                groups=inner,
            )
            project = Layer(
                f"{name}.project",
                prefix + "_project_conv.weight",
                prefix + "_bn2",
                (channels_out, inner, 1, 1),
                clipped=False,
                adds=source if stride == 1 and channels_in == channels_out else None,
            )
            yield project
            source = project.output
            index += 1
