"""What was chosen among duplicates, as a list for programs or as a script that moves the files. Nothing is deleted."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from imagelake.errors import InputError
from imagelake.files import uri_to_path
from imagelake.gallery.copies_choice import Chosen

FORMATS: Mapping[str, str] = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "sh": "application/x-sh",
    "ps1": "text/plain; charset=utf-8",
}
"""What can be exported, with the media type of each."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_COLUMNS = ("group", "uri", "id", "byte_size", "width", "height", "kind", "distance", "keep_uri", "keep_id")
_FOLDER = "duplicates"

_SH = r"""#!/bin/sh
# {what}
# Look at it first. Then run:  sh THIS_FILE [FOLDER]     (FOLDER is by default: {folder})
# It moves files into FOLDER, and deletes and overwrites nothing. A file that has changed since, whose twin that is kept
# is gone, or that is the very twin under another name stays where it is.
set -u
LC_ALL=C
export LC_ALL
folder=${{1:-{folder}}}
case $folder in /*) ;; *) folder=./$folder ;; esac
mkdir -p "$folder" || exit 1
moved=0
left=0

leave() {{ # PATH REASON
  left=$((left + 1))
  printf 'left: %s: %s\n' "$(printf '%s' "$1" | tr '[:cntrl:]' '?')" "$2" >&2
}}

move() {{ # PATH BYTES KEPT
  if [ -L "$1" ] || [ ! -f "$1" ]; then leave "$1" 'it is not there, or a link'; return; fi
  if [ "$(wc -c < "$1")" -ne "$2" ]; then leave "$1" 'it has changed'; return; fi
  if [ -n "$3" ]; then
    if [ ! -f "$3" ]; then leave "$1" 'the one to keep is gone'; return; fi
    if [ "$1" -ef "$3" ]; then leave "$1" 'it is the one to keep, under another name'; return; fi
  fi
  name=${{1##*/}}
  target=$folder/$name
  number=1
  while [ -e "$target" ] || [ -L "$target" ]; do
    target=$folder/$number-$name
    number=$((number + 1))
  done
  if mv "$1" "$target"; then moved=$((moved + 1)); else leave "$1" 'it could not be moved'; fi
}}

"""
_SH_END = r"""
printf '%s moved to %s, %s left where they were\n' "$moved" "$(printf '%s' "$folder" | tr '[:cntrl:]' '?')" "$left"
[ "$left" -eq 0 ]
"""

_PS1 = r"""# {what}
# Look at it first. Then run:  pwsh -File THIS_FILE [FOLDER]     (FOLDER is by default: duplicates)
# It moves files into FOLDER, and deletes and overwrites nothing. A file that has changed since, or whose twin that is
# kept is gone, stays where it is.
param([string]$Folder = {folder})
$ErrorActionPreference = 'Stop'
$Folder = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($Folder)
[void][System.IO.Directory]::CreateDirectory($Folder)
$script:Moved = 0
$script:Left = 0
function Skip-One($Path, $Reason) {{
  $script:Left++
  Write-Warning ('left: ' + ($Path -replace '\p{{C}}', '?') + ': ' + $Reason)
}}
function Move-One($Path, [long]$Bytes, $Kept) {{
  $file = [System.IO.FileInfo]::new($Path)
  $isLink = $file.Attributes.HasFlag([System.IO.FileAttributes]::ReparsePoint)
  if (-not $file.Exists -or $isLink) {{ Skip-One $Path 'it is not there, or a link'; return }}
  if ($file.Length -ne $Bytes) {{ Skip-One $Path 'it has changed'; return }}
  if ($Kept -and -not [System.IO.File]::Exists($Kept)) {{ Skip-One $Path 'the one to keep is gone'; return }}
  $target = [System.IO.Path]::Combine($Folder, $file.Name)
  for ($number = 1; [System.IO.File]::Exists($target) -or [System.IO.Directory]::Exists($target); $number++) {{
    $target = [System.IO.Path]::Combine($Folder, "$number-" + $file.Name)
  }}
  try {{ [System.IO.File]::Move($Path, $target); $script:Moved++ }} catch {{ Skip-One $Path 'it could not be moved' }}
}}

"""
_PS1_END = '\nWrite-Output "$script:Moved moved, $script:Left left where they were"\n'


def export_of(chosen: Sequence[Chosen], form: str, made_at: datetime, lake: str) -> bytes:
    """The files that go, in one of `FORMATS`.

    Args:
        chosen: those files, each with the one that is kept.
        form: of the export.
        made_at: when the groups were found.
        lake: its name.

    Raises:
        InputError: there is no such format.
    """
    if form not in FORMATS:
        raise InputError(f"format is {form[:60]!r}; give one of {', '.join(FORMATS)}.")
    if form == "csv":
        return _as_csv(chosen)
    if form == "json":
        told = {
            "lake": lake,
            "made_at": made_at.isoformat(timespec="seconds"),
            "files": [_row(each) for each in chosen],
        }
        return (json.dumps(told, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "replace")
    many = f"{len(chosen)} file{'' if len(chosen) == 1 else 's'}"
    what = f"{many} chosen among the duplicates of the lake {_one_line(lake)}, as of {made_at:%Y-%m-%d %H:%M} UTC."
    return (_as_sh if form == "sh" else _as_ps1)(chosen, what)


def quote_sh(path: bytes) -> bytes:
    """A path as one word of a POSIX shell: between single quotes nothing has a meaning but the quote itself."""
    return b"'" + path.replace(b"'", b"'\\''") + b"'"


def quote_ps1(path: str) -> str:
    """A path as a literal of PowerShell, which takes curly quotes for quotes too."""
    return "'" + "".join(letter * 2 if letter in "'\u2018\u2019\u201a\u201b" else letter for letter in path) + "'"


def local_path(uri: str) -> Path | None:
    """The absolute path of a file of this machine; None of anything else, such as a member of an archive."""
    if not uri.startswith("file:///") or "!/" in uri or "#" in uri or "?" in uri:
        return None
    try:
        path = uri_to_path(uri)
    except (InputError, ValueError):
        return None
    return None if "\0" in str(path) or not path.name else path


def _as_sh(chosen: Sequence[Chosen], what: str) -> bytes:
    head = _SH.format(what=what, folder=_FOLDER).encode("utf-8", "replace")

    def line(path: Path, size: int, kept: Path | None) -> bytes:
        words = quote_sh(os.fsencode(path)), str(size).encode(), quote_sh(os.fsencode(kept) if kept else b"")
        return b"move " + b" ".join(words) + b"\n"

    return head + b"".join(_lines(chosen, line)) + _SH_END.encode()


def _as_ps1(chosen: Sequence[Chosen], what: str) -> bytes:
    def line(path: Path, size: int, kept: Path | None) -> bytes | None:
        words = quote_ps1(str(path)), str(size), quote_ps1(str(kept) if kept else "")
        try:
            return ("Move-One " + " ".join(words) + "\n").encode()
        except UnicodeEncodeError:
            return None  # a name that is no text: PowerShell cannot write it

    head = _PS1.format(what=what, folder=quote_ps1(_FOLDER))
    return "\ufeff".encode() + head.encode("utf-8", "replace") + b"".join(_lines(chosen, line)) + _PS1_END.encode()


def _lines(chosen: Sequence[Chosen], line: Callable[[Path, int, Path | None], bytes | None]) -> list[bytes]:
    """A line for each file of this machine; of the others, a remark at the end."""
    lines, refused = [], []
    for each in chosen:
        path = local_path(each.file.uri)
        made = None if path is None else line(path, each.file.image.byte_size, local_path(each.keeper.uri))
        if made is None:
            refused.append(f"#   {_one_line(each.file.uri)}\n".encode("utf-8", "replace"))
        else:
            lines.append(made)
    if refused:
        lines += [b"\n# Not moved, since they are no files of this machine that this script could name:\n", *refused]
    return lines


def _one_line(text: str) -> str:
    """A text that stays in a remark of a script."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _row(chosen: Chosen) -> dict[str, str | int | float]:
    image = chosen.file.image
    values = (
        chosen.group, chosen.file.uri, image.id, image.byte_size, image.width, image.height, chosen.kind,
        round(image.distance, 4), chosen.keeper.uri, chosen.keeper.image.id,
    )  # fmt: skip
    return dict(zip(_COLUMNS, values, strict=True))


def _as_csv(chosen: Sequence[Chosen]) -> bytes:
    """RFC 4180; no cell begins as a formula of a spreadsheet does."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_MINIMAL)
    writer.writerow(_COLUMNS)
    writer.writerows([_harmless(value) for value in _row(each).values()] for each in chosen)
    return out.getvalue().encode("utf-8", "replace")


def _harmless(value: str | float) -> str | float:
    return f"'{value}" if isinstance(value, str) and value.lstrip().startswith(_FORMULA) else value
