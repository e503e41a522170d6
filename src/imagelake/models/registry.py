"""Where models lie as files: a folder with one folder a model, each with its manifest."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from imagelake.errors import ModelError
from imagelake.models.file_manifest import MANIFEST_FILE, FileManifest, from_json, require_name, to_json
from imagelake.models.heads import refuse_unknown
from imagelake.models.zoo import models as zoo_models

# What `--detector subject` means is no file.
RESERVED = frozenset({"subject", *(model.name for model in zoo_models())})

_CHUNK = 1 << 20

# What a folder that lost its manifest may hold and still be removed.
_MODEL_SUFFIXES = frozenset(
    {".onnx", ".onnx_data", ".data", ".bin", ".pb", ".pbtxt", ".prototxt", ".caffemodel", ".tflite"}
    | {".pt", ".pt2", ".pth", ".npz", ".npy"}
)

# Files whose hash was right: (path, device, inode, size, times of change, hash). Only within this process.
_verified: set[tuple[object, ...]] = set()


@dataclass(frozen=True)
class RegisteredModel:
    """A model in a registry: its manifest and the folder of its files. Small, and it can be pickled.

    On another machine `dataclasses.replace(model, folder=...)` says where the same files lie there.
    """

    manifest: FileManifest
    folder: Path

    def path(self, role: str) -> Path:
        """The file of a role, once its hash is found right; a file that did not change is hashed once a process.

        Raises:
            ModelError: the manifest has no such role, or the file is missing or not the one that was added.
        """
        if role not in self.manifest.files:
            roles = ", ".join(self.manifest.files)
            raise ModelError(f"{self.manifest.name} has no file in the role {role!r}; it has {roles}")
        path = self.folder / self.manifest.files[role]
        _verify(self.manifest.name, path, self.manifest.sha256.get(role))
        return path

    def verify(self) -> None:
        """Check every file.

        Raises:
            ModelError: one is missing or not the one that was added.
        """
        for role in self.manifest.files:
            self.path(role)


@dataclass(frozen=True)
class Registry:
    """The models in a folder, which need not be there yet.

    A model is added whole or not at all, and never changes in place; several processes may add at the same time.
    """

    folder: Path

    def names(self) -> tuple[str, ...]:
        """The models that are there, in order of their names."""
        try:
            entries = sorted(self.folder.iterdir())
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise ModelError(f"cannot list the models in {self.folder} ({error}); give another folder") from error
        return tuple(e.name for e in entries if not e.name.startswith(".") and (e / MANIFEST_FILE).is_file())

    def get(self, name: str) -> RegisteredModel:
        """Find a model. Its files are hashed when they are used.

        Raises:
            ModelError: there is none of this name, or its manifest is broken or lacks a hash.
        """
        require_name(name)
        folder = self.folder / name
        if not (folder / MANIFEST_FILE).is_file():
            if name in RESERVED:
                raise ModelError(
                    f"{name!r} is built into imagelake and is no model of {self.folder}: it needs no adding, and "
                    "cannot be checked or removed; name it wherever a model of its task is asked for"
                )
            known = ", ".join(self.names()) or "none yet"
            raise ModelError(
                f"model {name!r} is not in {self.folder} (there: {known}); add it with `imagelake models add`"
            )
        model = open_folder(folder)
        if model.manifest.name != name:
            raise ModelError(f"{folder} holds the model {model.manifest.name!r}; name the folder so, or add it again")
        return model

    def add(
        self,
        manifest: FileManifest,
        sources: Mapping[str, Path],
        *,
        replace: bool = False,
        check: Callable[[RegisteredModel], object] | None = None,
    ) -> RegisteredModel:
        """Copy a model into the registry.

        Args:
            manifest: its manifest. Where it has a hash, the file must have that hash; the other hashes are filled in.
            sources: role to the file to copy, for every role of `manifest.files`.
            replace: whether a model of the same name may be replaced.
            check: called with the copy before it gets its name; what it raises keeps the model out.

        Raises:
            ModelError: the name is taken, a file is missing or has another hash, or the folder cannot be written.
        """
        if manifest.name in RESERVED:
            raise ModelError(f"{manifest.name!r} is a name of imagelake's own; give the model another with --name")
        refuse_unknown(f"files of {manifest.name}", list(sources), list(manifest.files))
        missing = [role for role in manifest.files if role not in sources]
        if missing:
            raise ModelError(
                f"the file of {', '.join(missing)} of {manifest.name} is not given; give one for each role"
            )
        if not replace:
            self._refuse_taken(manifest.name)
        temporary: Path | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=self.folder, prefix=".adding-"))
            temporary.chmod(0o755)
            hashes = {role: _copy(sources[role], temporary / file) for role, file in manifest.files.items()}
            for role, digest in manifest.sha256.items():
                if hashes[role] != digest:
                    raise ModelError(_wrong_hash(manifest.name, sources[role], digest, hashes[role]))
            complete = dataclasses.replace(manifest, sha256=hashes)
            _write(temporary / MANIFEST_FILE, to_json(complete))
            if check is not None:
                check(RegisteredModel(complete, temporary))
            self._move_in(temporary, manifest.name, replace=replace)
        except OSError as error:
            raise ModelError(f"cannot add {manifest.name} to {self.folder} ({error}); nothing was added") from error
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
        return RegisteredModel(complete, self.folder / manifest.name)

    def remove(self, name: str) -> None:
        """Take a model out, with its files; also what is left of one whose manifest is lost.

        Raises:
            ModelError: there is none of this name, its folder has no manifest and holds what is no file of a model, or
                the folder cannot be written.
        """
        require_name(name)
        if not os.path.lexists(self.folder / name):
            self.get(name)
        elif name not in self.names():
            _refuse_other_folder(self.folder / name)
        try:
            self._move_out(name)
        except OSError as error:
            raise ModelError(f"cannot remove {name} from {self.folder} ({error})") from error

    def _refuse_taken(self, name: str) -> None:
        if os.path.lexists(self.folder / name):
            raise ModelError(
                f"there is a model {name!r} in {self.folder}; choose another --name, replace it with --replace, or "
                f"remove it with `imagelake models remove {name}`"
            )

    def _move_in(self, temporary: Path, name: str, *, replace: bool) -> None:
        """Give the finished folder its name; a folder of that name leaves first where it may."""
        try:
            temporary.rename(self.folder / name)
        except OSError:  # there is a folder of this name: ours did not move
            if not replace:
                self._refuse_taken(name)
                raise
            self._move_out(name)
            temporary.rename(self.folder / name)

    def _move_out(self, name: str) -> None:
        """First the name goes, at once; then the files."""
        away = Path(tempfile.mkdtemp(dir=self.folder, prefix=".removing-"))
        try:
            (self.folder / name).rename(away / name)
        finally:
            shutil.rmtree(away, ignore_errors=True)


def default_registry() -> Registry:
    """The registry for whoever names no other: `models` in the user's data folder of imagelake."""
    return Registry(Path(platformdirs.user_data_dir("imagelake", appauthor=False)) / "models")


def open_folder(folder: Path) -> RegisteredModel:
    """The model whose manifest and files lie in a folder, wherever that is.

    Raises:
        ModelError: the manifest is missing or broken, or lacks the hash of a file.
    """
    path = folder / MANIFEST_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read {path} ({error}); add the model again") from error
    try:
        manifest = from_json(text)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    missing = [role for role in manifest.files if role not in manifest.sha256]
    if missing:
        raise ModelError(f"{path} lacks the hash of {', '.join(missing)}; add the model with `imagelake models add`")
    return RegisteredModel(manifest, folder)


def hash_file(path: Path) -> str:
    """The SHA-256 of a file, 64 hex digits.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read {path} ({error}); give a file that can be read") from error


def _refuse_other_folder(folder: Path) -> None:
    """Refuse to remove a folder without a manifest that holds more than files of a model: `--models` may be wrong."""
    try:
        entries = sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []
    except OSError as error:
        raise ModelError(f"cannot list {folder} ({error}); remove it by hand") from error
    other = [entry.name for entry in entries if entry.suffix not in _MODEL_SUFFIXES or not entry.is_file()]
    if other or not (folder.is_dir() or folder.is_symlink()):
        what = f"holds {', '.join(other[:3])}" if other else "is a file"
        raise ModelError(
            f"{folder} has no {MANIFEST_FILE} and {what}, which is nothing of a model, so it is kept; give another "
            "--models, or remove it by hand"
        )


def _verify(name: str, path: Path, expected: str | None) -> None:
    try:
        found = path.stat()
    except OSError as error:
        raise ModelError(f"a file of {name} is missing ({error}); add the model again") from error
    key = (path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, expected)
    if key in _verified:
        return
    digest = hash_file(path)
    if digest != expected:
        raise ModelError(_wrong_hash(name, path, expected or "none", digest))
    _verified.add(key)


def _wrong_hash(name: str, path: Path, expected: str, found: str) -> str:
    return (
        f"{path} is not the file that the manifest of {name} means: its SHA-256 is {found}, wanted is {expected}; "
        "it was damaged or changed, so it is not run: get it again and add the model anew"
    )


def _copy(source: Path, target: Path) -> str:
    """Copy a file and give the hash of what was written."""
    digest = hashlib.sha256()
    try:
        file = source.open("rb")
    except OSError as error:
        raise ModelError(f"cannot read {source} ({error}); give a file that can be read") from error
    with file, target.open("wb") as copy:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            copy.write(chunk)
        _sync(copy.fileno())
    return digest.hexdigest()


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        _sync(file.fileno())


def _sync(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # a file system without it
        os.fsync(descriptor)
