"""Every error that imagelake raises on purpose, as one tree.

::

    ImagelakeError
    ├── InputError            what was given cannot be used: says what was given, what is allowed, what to do
    ├── MissingExtraError     an optional dependency is not installed: says the install line
    ├── ImageError            bytes that cannot become pixels: becomes a row in `rejections`
    ├── ModelError            a model file that is unknown, refused or wrong
    ├── SearchError           vectors or queries that cannot be compared
    ├── ServingError          a request to a served model that cannot be answered
    │   ├── NotServedError        there is no such model or version, or it is not ready
    │   ├── BusyError             too much waits already: ask again later
    │   ├── TimeLimitError        the answer would come after the deadline
    │   └── TooLargeError         a request beyond the limits of the server
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


class ServingError(ImagelakeError):
    """A request to a served model that cannot be answered."""


class NotServedError(ServingError):
    """There is no such model or version here, or it is not ready."""


class BusyError(ServingError):
    """Too much waits already; the same request may be answered later."""


class TimeLimitError(ServingError, TimeoutError):
    """The answer would come after the deadline."""


class TooLargeError(ServingError):
    """A request beyond the limits of the server: bytes, tensors or pixels."""


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
