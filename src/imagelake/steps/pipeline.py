"""What is done with each picture, as plain data: detect, choose, crop, embed, code; any of them left out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imagelake.errors import InputError
from imagelake.models.choice import (
    DetectorModel,
    EmbedderModel,
    SubjectModel,
    dimensions_of,
    find_detector,
    fingerprint_of,
    name_of,
    text_of,
)
from imagelake.models.registry import RegisteredModel

# Raise it when the same pipeline would give other regions or vectors.
PIPELINE_VERSION = 1

KEEP: tuple[Literal["best"], Literal["all"]] = ("best", "all")


@dataclass(frozen=True, kw_only=True)
class Detect:
    """Find boxes, and which of them to keep.

    Attributes:
        model: a detector of the registry, or the subject detector.
        labels: the wanted labels; none given, all are.
        min_score: boxes below it are left out, 0 to 1.
        keep: `"best"`, the one with the highest score, or `"all"`.
        most: with `"all"`, at most so many boxes of a picture, the best ones.
    """

    model: DetectorModel
    labels: tuple[str, ...] = ()
    min_score: float = 0.3
    keep: Literal["best", "all"] = "best"
    most: int = 100

    def __post_init__(self) -> None:
        if self.keep not in KEEP:
            raise InputError(f"keep {self.keep!r} is not known; use one of {', '.join(KEEP)}.")
        # What means the same has the same fingerprint.
        object.__setattr__(self, "labels", tuple(sorted(set(self.labels))))
        object.__setattr__(self, "min_score", float(self.min_score))
        if not 0 <= self.min_score <= 1:
            raise InputError(f"min_score is {self.min_score}; it must be between 0 and 1.")
        if self.most < 1:
            raise InputError(f"most is {self.most}; it must be 1 or more.")


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Cut the kept boxes out, so that each is embedded on its own.

    Attributes:
        margin: what is added on each side, as a share of the box's width and height.
    """

    margin: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= 10:
            raise InputError(f"margin is {self.margin}; it must be between 0 and 10, a share of the box's sides.")
        object.__setattr__(self, "margin", float(self.margin))


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """What is done with each picture. It can be pickled: models are named by their folder and opened on the worker.

    Attributes:
        detect: which regions to find; None: none.
        crop: whether each region gets a vector; None: the picture as a whole gets one.
        embed: what makes vectors; None: no vectors.
        code: what makes binary codes of the vectors; None: no codes.
        dimensions: the length of a vector, found out when it is left out; None where none are made.
    """

    detect: Detect | None = None
    crop: Crop | None = None
    embed: EmbedderModel | None = None
    code: RegisteredModel | None = None
    dimensions: int | None = None

    def __post_init__(self) -> None:
        if self.detect is None and self.embed is None:
            raise InputError("This pipeline does nothing: give it a detector, a model that embeds, or both.")
        if self.crop is not None and (self.detect is None or self.embed is None):
            raise InputError("To crop takes a detector, which finds what to cut out, and a model that embeds it.")
        if self.code is not None and self.embed is None:
            raise InputError("Codes are made of vectors: give the pipeline a model that embeds, too.")
        if self.embed is not None and self.dimensions is None:
            object.__setattr__(self, "dimensions", dimensions_of(self.embed))
        if self.code is not None and self.code.manifest.head["embeddings"] != self.fingerprint:
            raise InputError(
                f"{name_of(self.code)} was learned on other vectors than these steps make. Learn one on these: "
                f"imagelake codes fit --set {self.set_name}"
            )

    @property
    def of_regions(self) -> bool:
        """Whether vectors are of regions; otherwise they are of whole pictures."""
        return self.crop is not None

    @property
    def detection_fingerprint(self) -> str | None:
        """Names the regions: 64 hex digits; None without a detector."""
        if self.detect is None:
            return None
        shape = dataclasses.asdict(dataclasses.replace(self.detect, model=SubjectModel()))
        shape["model"] = fingerprint_of(self.detect.model)
        if self.detect.keep == "best":
            del shape["most"]  # it says nothing
        return _hash({"detect": shape, "version": PIPELINE_VERSION})

    @property
    def fingerprint(self) -> str:
        """Names the result: 64 hex digits. Vectors of whole pictures have that of their model alone."""
        if self.embed is not None and self.crop is None:
            return fingerprint_of(self.embed)
        if self.embed is None or self.crop is None:
            return str(self.detection_fingerprint)
        crop = dataclasses.asdict(self.crop)
        return _hash({"detect": self.detection_fingerprint, "crop": crop, "embed": fingerprint_of(self.embed)})

    @property
    def result_fingerprint(self) -> str:
        """Names all that comes out, regions and codes too: 64 hex digits. The same as `fingerprint` where that does."""
        told = [self.fingerprint]
        if self.detect is not None and self.embed is not None and self.crop is None:
            told.append(str(self.detection_fingerprint))
        if self.code is not None:
            told.append(fingerprint_of(self.code))
        return told[0] if len(told) == 1 else _hash(told)

    @property
    def set_name(self) -> str | None:
        """The name of the embedding set; None where no vectors are made."""
        return None if self.embed is None else f"{name_of(self.embed)}-{self.fingerprint[:12]}"

    @property
    def subject(self) -> str:
        """What a receipt calls the work."""
        if self.set_name is not None:
            return self.set_name
        return f"{self.detector_name}-{self.fingerprint[:12]}"

    @property
    def detector_name(self) -> str | None:
        """The detector's name; None without one."""
        return None if self.detect is None else name_of(self.detect.model)

    def to_json(self) -> str:
        """All but the embedder and the coder, as `from_json` reads it: what an embedding set of regions keeps."""
        detect = None
        if self.detect is not None:
            detect = dataclasses.asdict(dataclasses.replace(self.detect, model=SubjectModel()))
            detect["model"] = text_of(self.detect.model)
        return json.dumps({"detect": detect, "crop": self.crop and dataclasses.asdict(self.crop)})

    def relocate(self, folder: Path) -> Pipeline:
        """The same with its models' folders looked for below `folder`: they have travelled to another machine."""
        moved = dict[str, object]()
        if self.detect is not None and isinstance(self.detect.model, RegisteredModel):
            model = dataclasses.replace(self.detect.model, folder=folder / self.detect.model.folder.name)
            moved["detect"] = dataclasses.replace(self.detect, model=model)
        for name in ("embed", "code"):
            model = getattr(self, name)
            if isinstance(model, RegisteredModel):
                moved[name] = dataclasses.replace(model, folder=folder / model.folder.name)
        return dataclasses.replace(self, **moved)  # type: ignore[arg-type]

    def model_folders(self) -> list[Path]:
        """The folders that must travel with it."""
        models = [self.detect and self.detect.model, self.embed, self.code]
        return sorted({model.folder for model in models if isinstance(model, RegisteredModel)})


def from_json(text: str, embed: EmbedderModel) -> Pipeline:
    """The pipeline that an embedding set was made with.

    Raises:
        ModelError: its detector is registered no more.
    """
    told = json.loads(text)
    detect = told["detect"] | {"model": find_detector(told["detect"]["model"])}
    detect["labels"] = tuple(detect["labels"])
    return Pipeline(detect=Detect(**detect), crop=Crop(**told["crop"]), embed=embed)


def _hash(value: object) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
