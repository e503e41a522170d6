"""A chain of transforms: from an upright RGB picture to what a model takes, written as a short list that is JSON.

    [{"resize": {"size_wh": [300, 300]}}, {"normalize": {"mean": [123, 117, 104]}}, {"order": "bgr"}, {"layout": "chw"}]

Transforms are found by name: ours in the table below, those of other packages by entry points of the group
`imagelake.transforms`. An entry point's value is a frozen dataclass whose fields are the settings, with a method
`apply(frame)` that returns another `Frame`; see docs/how-to/transforms.md.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.pixels.boxes import clip, project, scale
from imagelake.pixels.decode import decode_rgb
from imagelake.pixels.frame import Frame, frame_of

GROUP = "imagelake.transforms"

CHAIN_VERSION = 1
"""Rises when a transform of ours gives other numbers than before: a part of every fingerprint of a chain's results."""

_PLACE = "imagelake.pixels."
_OURS = {
    "aspect_scale": "geometry:AspectScale",
    "brightness": "photometric:Brightness",
    "center_crop": "cropping:CenterCrop",
    "color_jitter": "photometric:ColorJitter",
    "contrast": "photometric:Contrast",
    "crop": "cropping:Crop",
    "dtype": "normalization:ToDtype",
    "expand": "cropping:Expand",
    "fill": "cropping:Fill",
    "flip": "turning:Flip",
    "hue": "photometric:Hue",
    "layout": "normalization:ToLayout",
    "letterbox": "geometry:Letterbox",
    "normalize": "normalization:Normalize",
    "normalize_image": "normalization:NormalizeImage",
    "normalize_pixels": "normalization:NormalizePixels",
    "order": "normalization:ToOrder",
    "random_aspect_scale": "geometry:RandomAspectScale",
    "random_brightness": "photometric:RandomBrightness",
    "random_contrast": "photometric:RandomContrast",
    "random_crop": "cropping:RandomCrop",
    "random_expand": "cropping:RandomExpand",
    "random_flip": "turning:RandomFlip",
    "random_hue": "photometric:RandomHue",
    "random_interpolation": "geometry:RandomInterpolation",
    "random_resized_crop": "geometry:RandomResizedCrop",
    "random_rotate": "turning:RandomRotate",
    "random_saturation": "photometric:RandomSaturation",
    "resize": "geometry:Resize",
    "rotate": "turning:Rotate",
    "sample_crop": "sampler:SampleCrop",
    "saturation": "photometric:Saturation",
    "scale": "normalization:Scale",
    "shuffle_channels": "photometric:ShuffleChannels",
    "sometimes": "sampler:Sometimes",
}


class Transform(Protocol):
    """One link of a chain: a frozen dataclass whose fields are its settings.

    Its class may also name the field that `{"name": value}` sets where the value is no table: `shorthand = "factor"`.
    """

    def apply(self, frame: Frame) -> Frame:
        """Return another frame; never write into the arrays of this one."""
        ...


class RandomTransform(Protocol):
    """A link that draws numbers: its class says `random = True`."""

    random: ClassVar[bool]

    def apply(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """As for `Transform`, with what is drawn from `rng` and from nowhere else."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """One picture after a chain.

    Attributes:
        array: the values, such as float32 [3, h, w] or uint8 [h, w, 3], C-contiguous, shared with no other picture.
        matrix: float64 [3, 3]: edge coordinates (see `boxes`) of the source picture to those of the prepared one.
        source_wh: width and height of the source picture in pixels.
        boxes_xyxy: float32 [n, 4], the boxes that came with the picture, in pixels of the prepared one; None without.
        kept: int64 [n], which of the boxes that came these are: some may lie outside now.
    """

    array: NDArray[Any]
    matrix: NDArray[np.float64]
    source_wh: tuple[int, int]
    boxes_xyxy: NDArray[np.float32] | None = None
    kept: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """A transform under the name that it goes by in a list."""

    name: str
    transform: Transform | RandomTransform

    @property
    def random(self) -> bool:
        """Whether the transform draws numbers."""
        return bool(getattr(self.transform, "random", False))


@dataclass(frozen=True, slots=True)
class Chain:
    """Transforms, one after the other, made by `parse`. Equal chains do the same; they may be pickled and shared."""

    links: tuple[Link, ...] = ()

    @property
    def random(self) -> bool:
        """Whether the result depends on chance, so that `apply` needs a generator."""
        return any(link.random for link in self.links)

    @property
    def shortest_side(self) -> int | None:
        """The shorter side that a decoded picture needs, in pixels, for the chain to lose nothing; None: all of it.

        Known where the first transform of place or size is a scaling of the whole picture: see `decode`.
        """
        from imagelake.pixels.normalization import ToDtype, ToLayout, ToOrder

        for link in self.links:
            if isinstance(link.transform, (ToDtype, ToLayout, ToOrder)):
                continue
            wanted = getattr(link.transform, "shortest_side", None)
            return None if wanted is None else int(wanted())
        return None

    def apply(
        self,
        image_rgb: NDArray[np.uint8],
        *,
        rng: np.random.Generator | None = None,
        boxes_xyxy: NDArray[Any] | None = None,
    ) -> Prepared:
        """Prepare one picture.

        Args:
            image_rgb: uint8 [h, w, 3], RGB, upright, at least one pixel. It is not changed, and not part of the result.
            rng: where chance comes from; needed by a chain that is `random`.
            boxes_xyxy: boxes [n, 4] in pixels of the picture, which go along.

        Raises:
            InputError: the array is no such picture, the chain is random and no `rng` was given, or settings do not
                fit the picture, such as three means for a gray one.
        """
        image = np.asarray(image_rgb)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise InputError(
                f"a picture of type {image.dtype} and shape {image.shape} cannot be prepared; "
                "give uint8 [height, width, 3] with at least one pixel"
            )
        if rng is None and self.random:
            names = ", ".join(link.name for link in self.links if link.random)
            raise InputError(f"{names} draws numbers; give rng=numpy.random.default_rng(SEED), or a seed to apply_all")
        frame = run_links(self.links, frame_of(image, boxes_xyxy), rng)
        array = frame.finished()
        if np.may_share_memory(array, image) or not array.flags.writeable:
            array = array.copy()
        source_wh = (int(image.shape[1]), int(image.shape[0]))
        return Prepared(array, frame.matrix, source_wh, frame.boxes_xyxy, frame.kept)

    def apply_bytes(self, data: bytes, *, rng: np.random.Generator | None = None) -> Prepared:
        """Decode the bytes of an image file, turned upright, and prepare the picture.

        Raises:
            ImageError: the bytes cannot become pixels.
            InputError: as for `apply`.
        """
        return self.apply(decode_rgb(data), rng=rng)

    def apply_all(self, images_rgb: Sequence[NDArray[np.uint8]], *, seed: int | None = None) -> list[Prepared]:
        """Prepare some pictures, each as `apply` does.

        Args:
            images_rgb: the pictures; none is fine.
            seed: where chance comes from. Each picture has a generator of its own, made of the seed and its place in
                the list, so what it becomes does not depend on the others.

        Raises:
            InputError: as for `apply`.
        """
        if seed is None:
            return [self.apply(image) for image in images_rgb]
        generators = (np.random.default_rng([seed, place]) for place in range(len(images_rgb)))
        return [self.apply(image, rng=rng) for image, rng in zip(images_rgb, generators, strict=True)]

    def to_list(self) -> list[dict[str, Any]]:
        """The chain as JSON, with every setting written out: equal chains give equal lists, and `parse` reads them."""
        return [{link.name: settings_of(link.transform)} for link in self.links]


def parse(entries: Sequence[Mapping[str, Any]], *, folder: str | Path | None = None) -> Chain:
    """Make a chain of a list as it stands in a manifest.

    Args:
        entries: tables with one name each: `{"resize": {"size_wh": [300, 300]}}`, or `{"order": "bgr"}` for a
            transform that mostly has one setting.
        folder: where files lie that transforms name (`normalize_pixels`); the working folder if None.

    Raises:
        InputError: a name or a setting is not known (the nearest known ones are listed), or a value is not allowed.
    """
    if isinstance(entries, (str, bytes, Mapping)) or not isinstance(entries, Sequence):
        raise InputError(
            f'transforms {entries!r} are no list; give one such as [{{"resize": {{"size_wh": [300, 300]}}}}]'
        )
    return Chain(tuple(_parse_link(entry, "" if folder is None else str(folder)) for entry in entries))


def boxes_in_source(boxes_xyxy: NDArray[Any], prepared: Prepared) -> NDArray[np.float32]:
    """Take boxes in pixels of a prepared picture back to the source picture.

    Returns:
        float32 [n, 4] in 0..1 of the source picture, clipped to it. Where a chain turned the picture, each is the
        smallest upright box around the turned one.
    """
    width, height = prepared.source_wh
    boxes = project(boxes_xyxy, np.linalg.inv(prepared.matrix))
    return clip(scale(boxes, (1 / width, 1 / height)), (1, 1))


def run_links(links: Sequence[Link], frame: Frame, rng: np.random.Generator | None) -> Frame:
    """Send a frame through links, one after the other."""
    for link in links:
        if link.random and rng is not None:
            frame = cast("RandomTransform", link.transform).apply(frame, rng)
        else:
            frame = cast("Transform", link.transform).apply(frame)
    return frame


def names() -> list[str]:
    """The names of all transforms, ours and those of other packages."""
    return sorted({*_OURS, *_entry_points()})


def transform_class(name: str) -> type[Transform]:
    """The class that a name stands for. Ours come first: no other package can change what our names mean.

    Raises:
        InputError: it is not known.
    """
    if name in _OURS:
        module, _, attribute = _OURS[name].partition(":")
        return cast("type[Transform]", getattr(import_module(_PLACE + module), attribute))
    entry_point = _entry_points().get(name)
    if entry_point is None:
        raise InputError(f"transform {name!r} is not known; {_nearest(name, names())}")
    return cast("type[Transform]", entry_point.load())


def settings_of(transform: Transform | RandomTransform) -> dict[str, Any]:
    """The settings of a transform as JSON."""
    found = {}
    for each in dataclasses.fields(cast("Any", transform)):
        if each.name != "folder":
            found[each.name] = _to_json(getattr(transform, each.name))
    return found


@cache
def _entry_points() -> dict[str, metadata.EntryPoint]:
    found: dict[str, metadata.EntryPoint] = {}
    for each in metadata.entry_points(group=GROUP):
        other = found.setdefault(each.name, each)
        if other.value != each.value:
            raise InputError(f"Two transforms are called {each.name!r}: {other.value} and {each.value}. Uninstall one.")
    return found


def _parse_link(entry: Mapping[str, Any], folder: str) -> Link:
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise InputError(f'transform {entry!r} is not allowed; give one name with its settings, as {{"order": "bgr"}}')
    name, given = next(iter(entry.items()))
    if not isinstance(name, str):
        raise InputError(f"transform {name!r} is not known; {_nearest(str(name), names())}")
    kind = transform_class(name)
    fields = {each.name: each for each in dataclasses.fields(cast("Any", kind)) if each.name != "folder"}
    shorthand = getattr(kind, "shorthand", None)
    if not isinstance(given, Mapping):
        if shorthand is None:
            raise InputError(
                f"{name} {given!r} is not allowed; give a table with {', '.join(fields) or 'nothing in it'}"
            )
        given = {shorthand: given}
    for key in given:
        if key not in fields:
            raise InputError(f"{name} has no setting {key!r}; {_nearest(str(key), list(fields))}")
    required = [
        each.name
        for each in fields.values()
        if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    ]
    missing = [key for key in required if key not in given]
    if missing:
        raise InputError(f"{name} needs {' and '.join(missing)}; its settings are {', '.join(fields)}")
    values = {key: _from_json(value, folder) for key, value in given.items()}
    if hasattr(kind, "__dataclass_fields__") and "folder" in kind.__dataclass_fields__:
        values["folder"] = folder
    try:
        return Link(name, kind(**values))
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except (TypeError, ValueError) as error:  # of a class of somebody else
        raise InputError(f"{name} does not take {dict(given)!r}: {error}") from error


def _from_json(value: Any, folder: str) -> Any:
    """Lists as tuples; a list of transforms as a chain."""
    if not isinstance(value, list):
        return value
    if value and all(isinstance(each, Mapping) for each in value):
        return parse(value, folder=folder)
    return tuple(_from_json(each, folder) for each in value)


def _to_json(value: Any) -> Any:
    if isinstance(value, Chain):
        return value.to_list()
    return [_to_json(each) for each in value] if isinstance(value, tuple) else value


def _nearest(name: str, known: Sequence[str]) -> str:
    """The known names, those most alike first and alone where there are some."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known are {', '.join(known)}" if known else "it has none"
