"""Small notes of workers to the one who commits, beside a lake's tables: each is written once, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagelake._optional import need
from imagelake.files import is_remote
from imagelake.lake.failures import our_errors

FOLDER = "staging"


@dataclass(frozen=True)
class Staging:
    """The notes of one run. It can be pickled.

    A lake in a bucket needs the extra `buckets`, and a store that writes on condition, as the tables do.

    Attributes:
        root: of the lake, a folder or a bucket address.
        run: the name of the run.
    """

    root: str
    run: str

    def put(self, name: str, data: bytes, *, replace: bool = False) -> bool:
        """Write a note, unless there is one of that name.

        Returns:
            Whether this call wrote it.
        """
        with our_errors(self.address):
            return self._place.put(name, data, replace=replace)

    def get(self, name: str) -> bytes | None:
        """A note, or None where there is none."""
        with our_errors(self.address):
            return self._place.get(name)

    def names(self) -> list[str]:
        """The names of all notes, sorted."""
        with our_errors(self.address):
            return self._place.names()

    def delete(self, name: str) -> None:
        """Remove a note; one that is gone is no error."""
        with our_errors(self.address):
            self._place.delete(name)

    def remove(self) -> None:
        """Remove all notes."""
        for name in self.names():
            self.delete(name)
        with our_errors(self.address):
            self._place.close()

    @property
    def address(self) -> str:
        """Where they lie."""
        return f"{self.root}/{FOLDER}/{self.run}"

    @property
    def _place(self) -> _Local | _Bucket:
        return _Bucket(self.address) if is_remote(self.root) else _Local(Path(self.address))


def runs(root: str) -> list[str]:
    """The runs that left notes, sorted by name."""
    address = f"{root}/{FOLDER}"
    with our_errors(address):
        return _Bucket(address).folders() if is_remote(root) else _Local(Path(address)).folders()


@dataclass(frozen=True)
class _Local:
    folder: Path

    def put(self, name: str, data: bytes, *, replace: bool) -> bool:
        self.folder.mkdir(parents=True, exist_ok=True)
        half = self.folder / f".{uuid.uuid4().hex}"
        try:
            half.write_bytes(data)
            if replace:
                half.replace(self.folder / name)
            else:
                os.link(half, self.folder / name)
        except FileExistsError:
            return False
        finally:
            half.unlink(missing_ok=True)
        return True

    def get(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        return sorted(path.name for path in self._entries() if not path.name.startswith("."))

    def folders(self) -> list[str]:
        return sorted(path.name for path in self._entries() if path.is_dir())

    def _entries(self) -> list[Path]:
        return list(self.folder.iterdir()) if self.folder.exists() else []

    def delete(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        for path in self._entries():  # what a worker that was killed half wrote
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody else's run
            self.folder.rmdir()
            self.folder.parent.rmdir()


class _Bucket:
    """The same in a bucket. A class because it holds the connection."""

    def __init__(self, address: str) -> None:
        need("buckets", "obstore")
        from obstore.store import from_url

        options: dict[str, Any] = {}
        if os.environ.get("AWS_ALLOW_HTTP", "").lower() in {"1", "true"}:  # the tables' library reads it by itself
            options["client_options"] = {"allow_http": True}
        self._store = from_url(address, **options)

    def put(self, name: str, data: bytes, *, replace: bool) -> bool:
        from obstore.exceptions import AlreadyExistsError

        try:
            self._store.put(name, data, mode="overwrite" if replace else "create")
        except AlreadyExistsError:
            return False
        return True

    def get(self, name: str) -> bytes | None:
        try:
            return bytes(self._store.get(name).bytes())
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        found = (each["path"] for page in self._store.list() for each in page)
        return sorted(path for path in found if "/" not in path)

    def folders(self) -> list[str]:
        return sorted(prefix.rstrip("/") for prefix in self._store.list_with_delimiter()["common_prefixes"])

    def delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._store.delete(name)

    def close(self) -> None:
        """Nothing is left of a folder without objects."""
