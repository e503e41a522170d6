"""STL-10 from its home: downloaded in as many pieces as it takes, checked, unpacked."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import tarfile
import time
import zlib
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from imagelake.errors import InputError

URL = "https://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"
MD5 = "91f7769df0f17e558f3565bffb0c7dfb"
FILES = (
    "train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "unlabeled_X.bin", "class_names.txt", "fold_indices.txt",
)  # fmt: skip
_PIECE_BYTES = 1 << 20
_TRIES = 5  # in a row that bring nothing new
_TIMEOUT_S = 60.0
_NETWORK_ERRORS = (HTTPException, OSError)  # URLError, timeouts and lost connections are OSErrors

Progress = Callable[[int, int | None], object]


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
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url!r} is no web address. Give one that begins with https:// or http://.")
    part = target / "stl10_binary.tar.gz.part"
    try:
        target.mkdir(parents=True, exist_ok=True)
        _download(url, part, progress or (lambda _here, _total: None), wait_s)
        found = _md5(part)
        if found != md5:
            part.unlink()
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


def _download(url: str, part: Path, progress: Progress, wait_s: float) -> None:
    failures = 0
    while True:
        before = _size(part)
        try:
            if _go_on(url, part, progress):
                return
            reason = "the connection ended early"
        except _NetworkError as error:
            if error.is_final:
                raise InputError(f"{url} cannot be downloaded: {error}. Give another url.") from error
            reason = str(error)
        failures = 0 if _size(part) > before else failures + 1
        if failures == _TRIES:
            raise InputError(
                f"{url} cannot be downloaded: {reason}. The {_size(part):,} bytes that are here are kept in {part}; "
                "run again to go on."
            )
        time.sleep(wait_s * 2 ** max(failures - 1, 0))


class _NetworkError(Exception):
    """A reason why bytes did not come. Apart from OSError, so that a full disk is no reason to try again."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


def _go_on(url: str, part: Path, progress: Progress) -> bool:
    """Ask for what is missing and write it to the end of `part`; whether that is all of it now."""
    here = _size(part)
    answer = _ask(url, here)
    if answer is None:  # the server has nothing after `here`: all is there, or it is another file, as the MD5 will tell
        return True
    with answer:
        start, total = _range(answer, here)
        with part.open("r+b" if part.exists() else "wb") as file:
            file.truncate(start)
            file.seek(start)
            while piece := _read(answer):
                file.write(piece)
                start += len(piece)
                progress(start, total)
    return total is None or start >= total


def _ask(url: str, here: int) -> Any:
    headers = {"User-Agent": "imagelake", "Accept-Encoding": "identity"} | ({"Range": f"bytes={here}-"} if here else {})
    try:
        return urlopen(Request(url, headers=headers), timeout=_TIMEOUT_S)  # noqa: S310  (the scheme was checked)
    except HTTPError as error:
        error.close()
        if error.code == 416 and here:
            return None
        gone = 400 <= error.code < 500 and error.code not in {408, 425, 429}
        raise _NetworkError(f"the server answers {error.code} {error.reason}", is_final=gone) from error
    except _NETWORK_ERRORS as error:
        raise _NetworkError(str(getattr(error, "reason", error) or type(error).__name__)) from error


def _range(answer: Any, here: int) -> tuple[int, int | None]:
    """Where the answer begins in the file, and the size of the file."""
    if answer.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", "").strip())
        if found is None or int(found[1]) != here:
            raise _NetworkError("the server sends another part than it was asked for", is_final=True)
        return here, None if found[2] == "*" else int(found[2])
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _read(answer: Any) -> bytes:
    try:
        return bytes(answer.read(_PIECE_BYTES))
    except _NETWORK_ERRORS as error:
        raise _NetworkError(str(error) or type(error).__name__) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


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
