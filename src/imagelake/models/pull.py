"""Bring a model of the catalogue into a registry: from its home, a mirror or a folder, checked before it is used."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imagelake.download import Download, Progress, discard, fetch
from imagelake.errors import InputError, ModelError
from imagelake.models.adding import try_model
from imagelake.models.catalogue import CatalogueEntry
from imagelake.models.file_manifest import FileManifest
from imagelake.models.onnx_runtime import open_session
from imagelake.models.registry import RegisteredModel, Registry, hash_file

_DOWNLOADS = ".downloads"  # in the registry's folder, which lists nothing that starts with a dot
_TRUSTED = "trusted.json"


@dataclass(frozen=True)
class PullOptions:
    """How to pull.

    Attributes:
        source: a folder that holds the file, the file, or the address of a mirror (http or https) below which it is;
            None for the addresses of the catalogue.
        sha256: what the file must hash to, 64 hex digits, in place of what the catalogue says.
        trust_first: where nobody has told a hash, take what comes and write its hash down: from then on it holds.
        replace: whether a model of this name may be replaced.
        wait_s: seconds before a failed request is tried again; each further one waits twice as long.
    """

    source: str | None = None
    sha256: str | None = None
    trust_first: bool = False
    replace: bool = False
    wait_s: float = 1.0


@dataclass(frozen=True)
class Pulled:
    """What was pulled.

    Attributes:
        model: the model in the registry.
        sha256: the hash of the file that was pulled.
        source: where it came from; None where it was there already.
        trusted_first: whether its hash was not known before.
    """

    model: RegisteredModel
    sha256: str
    source: str | None
    trusted_first: bool = False


def pull(
    entry: CatalogueEntry, registry: Registry, options: PullOptions | None = None, progress: Progress | None = None
) -> Pulled:
    """Fetch a model, check its hash and size, and add it to a registry.

    What has arrived is kept when it fails; another call goes on from there. Nothing that has another hash than it
    should is kept or used. A model that is in the registry already is not fetched again.

    Args:
        entry: out of the catalogue.
        registry: where it goes.
        options: where from, and what to trust.
        progress: called with the bytes that are here and those that there will be, None where nobody knows.

    Raises:
        ModelError: it cannot be had, is another file than it should be, or does not run; or nobody has told its hash
            and it may not be trusted; or the name is taken.
    """
    options = options or PullOptions()
    known = options.sha256 or _trusted(registry).get(entry.name) or entry.sha256
    _require_hash(options.sha256)
    there = None if options.replace else _already_there(entry, registry, known)
    if there is not None:
        return there
    if known is None and not options.trust_first:
        raise ModelError(
            f"nobody has told the SHA-256 of {entry.file} ({entry.hash_source}), so what comes cannot be checked; give "
            "it with --sha256, or take what comes once with --trust-first, which writes its hash down"
        )
    folder = registry.folder / _DOWNLOADS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder, entry):
            path, source = _bring(entry, folder, known, options, progress or (lambda _here, _total: None))
            found = hash_file(path)
            model = _add(entry, registry, path, source, replace=options.replace)
            if found != entry.sha256:
                _trust(registry, entry.name, found)
            path.unlink()
    except OSError as error:
        raise ModelError(
            f"{folder} cannot be written: {error.strerror or error}; make room, or give another folder with --models"
        ) from error
    return Pulled(model, found, source, trusted_first=known is None)


def _already_there(entry: CatalogueEntry, registry: Registry, known: str | None) -> Pulled | None:
    if entry.name not in registry.names():
        return None
    model = registry.get(entry.name)
    model.verify()
    found = model.manifest.sha256["model"]
    if entry.build is None and known is not None and found != known:
        raise ModelError(
            f"the model {entry.name} in {registry.folder} is another one (its SHA-256 is {found}, wanted is {known}); "
            "replace it with --replace"
        )
    return Pulled(model, found, None)


def _bring(
    entry: CatalogueEntry, folder: Path, known: str | None, options: PullOptions, progress: Progress
) -> tuple[Path, str]:
    """The whole file, checked, and where it came from."""
    path = folder / entry.file
    if known is not None and path.is_file():  # an earlier run brought it and stopped before it was added
        if hash_file(path) == known:
            return path, _places(entry, options)[0]
        path.unlink()
    if options.source is not None and not _is_web(options.source):
        return _copy(entry, Path(options.source), path, known)
    reasons = []
    for address in _places(entry, options):
        try:
            _fetch(entry, address, path, known, options, progress)
        except InputError as error:
            reasons.append(str(error))
            continue
        return path, address
    untried = "" if entry.reached else " Nobody could try this address when the catalogue was written."
    raise ModelError(
        f"{entry.name} cannot be pulled: {' '.join(reasons)}{untried} Without a way to the web, get {entry.file} "
        f"elsewhere and run `imagelake models pull {entry.name} --from FOLDER`."
    )


def _places(entry: CatalogueEntry, options: PullOptions) -> list[str]:
    if options.source is None:
        return list(entry.addresses)
    if not _is_web(options.source):
        return [str(options.source)]
    return [options.source if options.source.endswith(entry.file) else f"{options.source.rstrip('/')}/{entry.file}"]


def _is_web(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def _fetch(
    entry: CatalogueEntry, address: str, path: Path, known: str | None, options: PullOptions, progress: Progress
) -> None:
    """Download to `path`. What was begun from another version of the file is found out and begun anew, once."""
    part = path.with_name(f"{path.name}.part")
    size = entry.size_bytes if options.sha256 in (None, entry.sha256) else None
    download = Download(address, part, size, options.wait_s, "Give another place with --from.")
    begun = part.exists()
    fetch(download, progress)
    found = hash_file(part)
    if begun and known is not None and found != known:
        discard(part)
        fetch(download, progress)
        found = hash_file(part)
    _require_file(entry, part, found, known, size, address)
    part.replace(path)


def _copy(entry: CatalogueEntry, source: Path, path: Path, known: str | None) -> tuple[Path, str]:
    given = source / entry.file if source.is_dir() else source
    if not given.is_file():
        raise ModelError(
            f"there is no {given}; give with --from a folder that holds {entry.file}, that file, or the "
            "http(s) address of a mirror"
        )
    part = path.with_name(f"{path.name}.copy")
    shutil.copyfile(given, part)
    try:
        # The size that the catalogue tells says nothing that the hash does not.
        _require_file(entry, part, hash_file(part), known, entry.size_bytes if known is None else None, str(given))
    except InputError as error:
        raise ModelError(str(error)) from error
    part.replace(path)
    return path, str(given)


def _require_file(
    entry: CatalogueEntry, part: Path, found: str, known: str | None, size: int | None, source: str
) -> None:
    here = part.stat().st_size
    if known is not None and found != known:
        discard(part)
        raise InputError(
            f"What {source} gave has the SHA-256 {found} ({here:,} bytes), wanted is {known}: it is damaged or another "
            "file, and nothing of it was kept. If it is the file that you want, say so with --sha256."
        )
    if size is not None and here != size:
        discard(part)
        raise InputError(f"What {source} gave has {here:,} bytes, {entry.file} has {size:,}: it is another file.")


def _add(entry: CatalogueEntry, registry: Registry, path: Path, source: str, *, replace: bool) -> RegisteredModel:
    if entry.build is None:
        manifest = _settled(entry.file_manifest(source), path)
        return registry.add(manifest, {"model": path}, replace=replace, check=try_model)
    from imagelake.models.keras_resnet50 import build_resnet50  # late: it needs TensorFlow

    onnx = path.with_suffix(".onnx")
    try:
        build_resnet50(path, onnx)
        manifest = _settled(entry.file_manifest(f"built with Keras from {source}", onnx.name), onnx)
        return registry.add(manifest, {"model": onnx}, replace=replace, check=try_model)
    finally:
        onnx.unlink(missing_ok=True)


def _settled(manifest: FileManifest, path: Path) -> FileManifest:
    """The manifest with the input that the file itself tells, which the catalogue's may name otherwise."""
    found = open_session(path).inputs[0]
    told = manifest.inputs[0]
    return dataclasses.replace(manifest, inputs=(dataclasses.replace(found, layout=told.layout),))


def _require_hash(sha256: str | None) -> None:
    if sha256 is not None and (len(sha256) != 64 or set(sha256) - set("0123456789abcdef")):
        raise ModelError(f"--sha256 {sha256!r} is no SHA-256; give 64 hex digits in lower case")


def _trusted(registry: Registry) -> dict[str, str]:
    """The hashes that a user gave or took on trust: name to hash. They go before the catalogue's."""
    path = registry.folder / _DOWNLOADS / _TRUSTED
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path} ({error}), which tells what was trusted; mend it or remove it") from error
    return {str(name): str(digest) for name, digest in told.items()}


def _trust(registry: Registry, name: str, digest: str) -> None:
    path = registry.folder / _DOWNLOADS / _TRUSTED
    part = path.with_name(f"{_TRUSTED}.part")
    part.write_text(json.dumps(_trusted(registry) | {name: digest}, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


@contextlib.contextmanager
def _alone(folder: Path, entry: CatalogueEntry) -> Iterator[None]:
    """Two pulls of one model would write into one file: the second is told."""
    with (folder / f"{entry.file}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ModelError(f"another process is pulling {entry.name} into {folder}; wait for it") from error
        yield
