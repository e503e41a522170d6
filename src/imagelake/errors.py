"""Every error that imagelake raises on purpose, as one tree.

::

    ImagelakeError
    ├── InputError            what was given cannot be used: says what was given, what is allowed, what to do
    ├── MissingExtraError     an optional dependency is not installed: says the install line
    ├── ImageError            bytes that cannot become pixels: becomes a row in `rejections`
    ├── ModelError            a model file that is unknown, refused or wrong
    ├── SearchError           vectors or queries that cannot be compared
    └── LakeError             the lake cannot do what was asked
        ├── LakeNotFoundError     there is no lake here
        ├── LakeReadOnlyError     the lake may be read but not written
        ├── LakeFullError         no space is left for the lake
        └── LakeConflictError     other writers kept winning; nothing was written, run again

Whoever catches `ImagelakeError` catches what a user can mend. Anything else is a defect of ours.
"""

from __future__ import annotations


class ImagelakeError(Exception):
    """The root of the tree."""


class InputError(ImagelakeError):
    """What was given cannot be used."""


class MissingExtraError(ImagelakeError):
    """An optional dependency is not installed."""


class ImageError(ImagelakeError):
    """Bytes that cannot become pixels; the message is the reason that a person reads."""


class ModelError(ImagelakeError):
    """A model file that is unknown, refused or wrong."""


class SearchError(ImagelakeError, ValueError):
    """Vectors or queries that cannot be compared; a ValueError too, as NumPy and scikit-learn raise."""


class LakeError(ImagelakeError):
    """The lake cannot do what was asked."""


class LakeNotFoundError(LakeError):
    """There is no lake at the given place."""


class LakeReadOnlyError(LakeError):
    """The lake may be read but not written."""


class LakeFullError(LakeError):
    """No space is left where the lake is."""


class LakeConflictError(LakeError):
    """Other writers kept winning; nothing was written."""
