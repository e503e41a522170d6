"""A file from a web address: in as many pieces as it takes, going on where an earlier run ended.

What has arrived lies in a part file. Beside it, `<part>.etag` holds the mark by which the server knows that version of
the file, where it gives one: the rest is then asked for only if the file is still the same (RFC 9110, `If-Range`).
Whether the whole is the right file is for the caller to check, by its hash.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from imagelake.errors import InputError

_PIECE_BYTES = 1 << 20
_TRIES = 5  # in a row that bring nothing new
_TIMEOUT_S = 60.0
_LONGEST_WAIT_S = 60.0
_NETWORK_ERRORS = (HTTPException, OSError)  # URLError, timeouts and lost connections are OSErrors

Progress = Callable[[int, int | None], object]


@dataclass(frozen=True)
class Download:
    """One file to fetch.

    Attributes:
        url: where it is, http or https. From https it never goes on to http.
        part: where its bytes are gathered; the folder must be there.
        size_bytes: how large it is, where that is known: a server that offers another size is refused at once.
        wait_s: seconds before the second try; each further one waits twice as long.
        advice: what a user can do when the file cannot be had, as a sentence.
    """

    url: str
    part: Path
    size_bytes: int | None = None
    wait_s: float = 1.0
    advice: str = "Give another url."


def fetch(download: Download, progress: Progress | None = None) -> None:
    """Bring all bytes of a file into its part file, after what is there already.

    Args:
        download: what and where to.
        progress: called with the bytes that are here and those that there will be, None where nobody knows.

    Raises:
        InputError: it cannot be had. What is here stays, unless the server has another size than was promised.
        OSError: the part file cannot be written.
    """
    if not download.url.startswith(("http://", "https://")):
        raise InputError(f"{download.url!r} is no web address. Give one that begins with https:// or http://.")
    failures = 0
    while True:
        before = _size(download.part)
        try:
            if _go_on(download, progress or (lambda _here, _total: None)):
                etag_path(download.part).unlink(missing_ok=True)
                return
            reason = "the connection ended early"
        except _NetworkError as error:
            if error.is_final:
                raise InputError(f"{download.url} cannot be downloaded: {error}. {download.advice}") from error
            reason = str(error)
        failures = 0 if _size(download.part) > before else failures + 1
        if failures == _TRIES:
            raise InputError(
                f"{download.url} cannot be downloaded: {reason}. The {_size(download.part):,} bytes that are here are "
                f"kept in {download.part}; run again to go on."
            )
        time.sleep(min(download.wait_s * 2 ** max(failures - 1, 0), _LONGEST_WAIT_S))


def discard(part: Path) -> None:
    """Remove a part file and what is known of it."""
    part.unlink(missing_ok=True)
    etag_path(part).unlink(missing_ok=True)


def etag_path(part: Path) -> Path:
    """Where the server's mark of the version lies."""
    return part.with_name(f"{part.name}.etag")


class _NetworkError(Exception):
    """A reason why bytes did not come. Apart from OSError, so that a full disk is no reason to try again."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


class _StayEncrypted(HTTPRedirectHandler):
    """Follows redirects between web addresses, and from https to https only."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        allowed = ("https://",) if req.full_url.startswith("https://") else ("https://", "http://")
        if not newurl.startswith(allowed):
            raise _NetworkError(f"it leads on to {newurl}, which is not {' or '.join(allowed)}", is_final=True)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _go_on(download: Download, progress: Progress) -> bool:
    """Ask for what is missing and write it to the end of the part file; whether that is all of it now."""
    part, here = download.part, _size(download.part)
    if here and here == download.size_bytes:
        return True
    known_etag = _known_etag(part) if here else None
    answer = _ask(download.url, here, known_etag)
    if answer is None:  # the server has nothing after `here`: all is there, or it is another file, as the hash tells
        return True
    with answer:
        start, total = _range(answer, here)
        etag = answer.headers.get("ETag", "")
        if start and known_etag and etag and etag != known_etag:
            discard(part)
            raise _NetworkError("the file on the server is another than the one begun; it starts anew")
        _refuse_other_size(download, total)
        _remember(part, etag)
        with part.open("r+b" if part.exists() else "wb") as file:
            file.truncate(start)
            file.seek(start)
            while piece := _read(answer):
                file.write(piece)
                start += len(piece)
                _refuse_other_size(download, total, start)
                progress(start, total)
    return total is None or start >= total


def _ask(url: str, here: int, etag: str | None) -> Any:
    headers = {"User-Agent": "imagelake", "Accept-Encoding": "identity"} | ({"Range": f"bytes={here}-"} if here else {})
    if etag:
        headers["If-Range"] = etag
    try:
        return build_opener(_StayEncrypted()).open(Request(url, headers=headers), timeout=_TIMEOUT_S)  # noqa: S310  (the scheme was checked)
    except HTTPError as error:
        error.close()
        if error.code == 416 and here:
            return None
        gone = 300 <= error.code < 500 and error.code not in {408, 425, 429}
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


def _refuse_other_size(download: Download, total: int | None, here: int = 0) -> None:
    wanted = download.size_bytes
    if wanted is None or ((total is None or total == wanted) and here <= wanted):
        return
    discard(download.part)
    raise _NetworkError(f"it has {total or here:,} bytes there, not {wanted:,}: it is another file", is_final=True)


def _read(answer: Any) -> bytes:
    try:
        return bytes(answer.read(_PIECE_BYTES))
    except _NETWORK_ERRORS as error:
        raise _NetworkError(str(error) or type(error).__name__) from error


def _remember(part: Path, etag: str) -> None:
    """Keep a strong mark; a weak one (`W/...`) does not promise equal bytes, so it may not be asked with."""
    if etag.startswith('"') and etag.isascii() and etag.isprintable():
        etag_path(part).write_text(etag, encoding="ascii")
    else:
        etag_path(part).unlink(missing_ok=True)


def _known_etag(part: Path) -> str | None:
    try:
        etag = etag_path(part).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return etag if etag.startswith('"') and etag.isprintable() else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
