"""STL-10 from its home: downloaded in as many pieces as it takes, checked, unpacked."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from imagelake.download import Download, Progress, discard, fetch
from imagelake.errors import InputError

URL = "https://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"
MD5 = "91f7769df0f17e558f3565bffb0c7dfb"
FILES = (
    "train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "unlabeled_X.bin", "class_names.txt", "fold_indices.txt",
)  # fmt: skip
_PIECE_BYTES = 1 << 20


def download_stl10(
    folder: str | Path, url: str = URL, progress: Progress | None = None, *, md5: str = MD5, wait_s: float = 1.0
) -> Path:
    """Download STL-10's binary form (2.6 GB) and unpack it into `folder` (3.2 GB more while both are there).

    What has arrived is kept in `stl10_binary.tar.gz.part`; another call goes on from there. A folder that holds all
    files already is left as it is.

    Args:
        folder: where the files come to lie; made where it is missing. Give it to `Stl10` afterwards.
        url: where the archive is, http or https.
        progress: called with the bytes that are here and those that there will be, None where nobody knows.
        md5: of the archive, as its authors' tools know it. It tells damage, not malice.
        wait_s: seconds before the second try; each further one waits twice as long.

    Returns:
        The folder.

    Raises:
        InputError: the archive cannot be had, or is another one (then it is removed).
    """
    target = Path(folder)
    if all((target / name).is_file() for name in FILES):
        return target
    part = target / "stl10_binary.tar.gz.part"
    try:
        target.mkdir(parents=True, exist_ok=True)
        fetch(Download(url, part, wait_s=wait_s), progress)
        found = _md5(part)
        if found != md5:
            discard(part)
            raise InputError(
                f"What {url} sent has the MD5 {found}, not {md5}: it is damaged or another file. It was removed; run "
                "again, or give another url."
            )
        _unpack(part, target)
        part.unlink()
    except OSError as error:
        raise InputError(
            f"{target} cannot be written: {error.strerror or error}. Make room or give another."
        ) from error
    return target


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _unpack(archive: Path, target: Path) -> None:
    """Unpack the known files by their bare names, wherever the archive puts them; each appears when it is whole."""
    missing = set(FILES)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                content = tar.extractfile(member) if member.isreg() and name in missing else None
                if content is not None:
                    _write(content, target / name)
                    missing.remove(name)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{archive} is no tar.gz archive: {error}. Remove it and run again.") from error
    if missing:
        raise InputError(f"{archive} holds no {', '.join(sorted(missing))}: it is not STL-10. Remove it.")


def _write(content: IO[bytes], path: Path) -> None:
    part = path.with_name(f"{path.name}.part")
    with content, part.open("wb") as file:
        shutil.copyfileobj(content, file, _PIECE_BYTES)
    part.replace(path)
