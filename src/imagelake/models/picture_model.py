"""A registered model that takes pictures: its transforms, its runtime, and calls that fit its batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ImagelakeError, ModelError
from imagelake.models.file_manifest import FileManifest
from imagelake.models.heads import BOXES_OUTPUTS
from imagelake.models.registry import RegisteredModel
from imagelake.models.runtime import Runtime, open_runtime, run_in_batches
from imagelake.pixels.chain import Chain, Prepared, parse
from imagelake.pixels.picture import MAX_SIDE

# The pictures of one call where a model takes any number: more are no faster and hold more memory.
BATCH = 4

_PROBE_HW = (48, 64)


@dataclass(frozen=True)
class PictureModel:
    """An opened model with one input for pictures. It may be used from several threads at once.

    Attributes:
        manifest: what was opened.
        runtime: what runs it.
        chain: what prepares a picture.
        outputs: the outputs that the head reads.
    """

    manifest: FileManifest
    runtime: Runtime
    chain: Chain
    outputs: tuple[str, ...]

    def size_wh(self, array: NDArray[Any]) -> tuple[int, int]:
        """Width and height of a prepared picture."""
        layouts = [entry["layout"]["layout"] for entry in self.manifest.transforms if "layout" in entry]
        height, width = array.shape[1:3] if layouts and layouts[-1] == "chw" else array.shape[:2]
        return int(width), int(height)

    @property
    def batch(self) -> int:
        """How many pictures a call of the runtime takes well."""
        return self.runtime.inputs[0].batch or BATCH

    @property
    def min_side(self) -> int:
        """The shorter side that a picture should keep when it is decoded at a smaller scale, in pixels."""
        return self.chain.shortest_side or MAX_SIDE

    def prepare(self, image_rgb: NDArray[np.uint8]) -> Prepared:
        """Bring an upright picture, uint8 [h, w, 3], to what the model takes.

        Raises:
            InputError: it is not such a picture.
        """
        return self.chain.apply(image_rgb)

    def run(self, arrays: Sequence[NDArray[Any]]) -> Iterator[tuple[list[int], dict[str, NDArray[Any]]]]:
        """Run the model over prepared pictures, those of one shape together.

        Yields:
            The positions of the pictures that a call answers for, and its outputs, which may hold more at their end.
        """
        positions: dict[tuple[int, ...], list[int]] = {}
        for position, array in enumerate(arrays):
            positions.setdefault(array.shape, []).append(position)
        for group in positions.values():
            stacked = np.stack([arrays[position] for position in group])
            start = 0
            for count, outputs in run_in_batches(self.runtime, self.outputs, stacked, self.batch):
                yield group[start : start + count], outputs
                start += count


def open_picture_model(model: RegisteredModel, task: str, *, threads: int = 1, device: str = "cpu") -> PictureModel:
    """Open a model for pictures, and check that its transforms make what its file takes.

    Args:
        model: out of a registry.
        task: what it must be for.
        threads: how many threads one call uses. A runner that calls from N threads gives 1.
        device: as `open_runtime` has it.

    Raises:
        ModelError: it is for another task, its manifest does not fit its file, or a file was changed.
    """
    manifest = model.manifest
    if manifest.task != task:
        article = "an" if task[0] in "aeiou" else "a"
        raise ModelError(f"{manifest.name} is no {task}: its task is {manifest.task}; use {article} {task}")
    runtime = open_runtime(model, threads=threads, device=device)
    if len(runtime.inputs) != 1:
        names = ", ".join(spec.name for spec in runtime.inputs)
        raise ModelError(f"{manifest.name} has the inputs {names}; a {task} takes one, the pictures")
    declared, found = manifest.inputs[0], runtime.inputs[0]
    if (declared.name, declared.dtype) != (found.name, found.dtype):
        raise ModelError(
            f"the manifest of {manifest.name} says that its input is {declared.name} ({declared.dtype}), its file says "
            f"{found.name} ({found.dtype}); mend the manifest"
        )
    outputs = _outputs_read(manifest, runtime)
    for role in manifest.roles_used:
        model.path(role)  # verified, also those that the transforms read
    chain = parse(list(manifest.transforms), folder=model.folder)
    _check_chain(manifest, runtime, chain)
    return PictureModel(manifest, runtime, chain, outputs)


def _outputs_read(manifest: FileManifest, runtime: Runtime) -> tuple[str, ...]:
    """The outputs that the head reads: those that it names, or the first of the manifest."""
    outputs = (manifest.outputs or runtime.outputs)[:1]
    if manifest.head["kind"] == "boxes":
        outputs = tuple(dict.fromkeys(manifest.head[key] for key in BOXES_OUTPUTS if manifest.head[key]))
    unknown = [name for name in outputs if name not in runtime.outputs]
    if unknown:
        known = ", ".join(runtime.outputs)
        raise ModelError(f"outputs {unknown} of {manifest.name} are not in its file; use some of {known}")
    return outputs


def _check_chain(manifest: FileManifest, runtime: Runtime, chain: Chain) -> None:
    """Prepare one picture to see that it fits the file."""
    spec = runtime.inputs[0]
    try:
        array = chain.apply(np.full((*_PROBE_HW, 3), 128, np.uint8)).array
    except ImagelakeError as error:
        raise ModelError(f"the transforms of {manifest.name} fail on a picture ({error}); mend them") from error
    sides = spec.shape[1:]
    fits = array.ndim == len(sides) and all(w in (-1, g) for w, g in zip(sides, array.shape, strict=True))
    if not fits or array.dtype.name != spec.dtype:
        wanted = ", ".join("any" if side == -1 else str(side) for side in sides)
        raise ModelError(
            f"the transforms of {manifest.name} make {array.dtype} {list(array.shape)} of a picture, its input "
            f"{spec.name} takes {spec.dtype} [{wanted}]; end them with the right resize, layout and dtype"
        )
