"""Groups of duplicates as files, and which of them are chosen to go: by a rule, and by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from imagelake.errors import InputError
from imagelake.files import display_name
from imagelake.gallery.catalog import SHORT
from imagelake.run.duplicates import DuplicateGroup, DuplicateReport, GroupedImage, Kind

PICKS = ("none", "exact", "hash", "all")
"""Which files a rule chooses: none; those of equal bytes; those and near hashes; all but the ones to keep."""

_RANK: Mapping[Kind | None, int] = {None: 0, "exact": 0, "hash": 1, "embedding": 2}
_MOST_RANK = {"none": -1, "exact": 0, "hash": 1, "all": 2}
_LONGEST = 1000


@dataclass(frozen=True, slots=True)
class CopyFile:
    """One file of a group: one URI of an image.

    Attributes:
        key: names it: the first letters of the image's id, and which of its URIs it is.
        image: of the report.
        uri: where it is.
        suggested: whether it is the one that the report would keep.
    """

    key: str
    image: GroupedImage
    uri: str
    suggested: bool


@dataclass(frozen=True, slots=True)
class FileGroup:
    """Files that are copies of each other; the suggested keeper is the first.

    Attributes:
        key: names the group: the first letters of the keeper's id.
        files: two or more.
    """

    key: str
    files: tuple[CopyFile, ...]


@dataclass(frozen=True)
class Rule:
    """Which files are chosen in all groups that nobody looked at.

    Attributes:
        pick: one of `PICKS`.
        under: files whose URI, as people read it, has this text are kept, and one of them is the keeper.
    """

    pick: str = "none"
    under: str = ""

    def __post_init__(self) -> None:
        if self.pick not in PICKS:
            raise InputError(f"pick is {self.pick[:60]!r}; give one of {', '.join(PICKS)}.")
        if len(self.under) > _LONGEST:
            raise InputError(f"under has {len(self.under)} letters; give at most {_LONGEST}.")


@dataclass(frozen=True)
class Decision:
    """What is decided of one group: the key of the file to keep, and of those that go."""

    keeper: str
    chosen: tuple[str, ...]


@dataclass(frozen=True)
class Totals:
    """What goes: files, their bytes, and in how many groups."""

    files: int = 0
    bytes: int = 0
    groups: int = 0


def file_groups(report: DuplicateReport) -> list[FileGroup]:
    """The groups of a report, file by file."""
    return [_files_of(group) for group in report.groups]


def _files_of(group: DuplicateGroup) -> FileGroup:
    files: list[CopyFile] = []
    counted: dict[str, int] = {}
    for image in (group.keeper, *group.members):
        for uri in image.uris or [f"id:{image.id}"]:
            number = counted.get(image.id, 0)
            counted[image.id] = number + 1
            files.append(CopyFile(f"{image.id[:SHORT]}.{number}", image, uri, suggested=not files))
    return FileGroup(group.keeper.id[:SHORT], tuple(files))


def readable(uri: str) -> str:
    """A URI as people read it: percent-encoding undone."""
    return "/".join(display_name(part) for part in uri.split("/"))


def kind_between(one: CopyFile, other: CopyFile) -> Kind:
    """What links two files of a group: the weaker of their links to the suggested keeper."""
    if one.image.id == other.image.id:
        return "exact"
    weaker = max((one.image.kind, other.image.kind), key=lambda kind: _RANK[kind])
    return "embedding" if weaker == "embedding" else "hash"


def decide(group: FileGroup, rule: Rule, by_hand: Decision | None = None) -> Decision:
    """What goes and what is kept in a group: as somebody decided, else by the rule. The keeper never goes.

    A decision by hand that names files which the group has not is about them nothing.
    """
    if by_hand is not None:
        keys = {each.key for each in group.files}
        kept = by_hand.keeper if by_hand.keeper in keys else group.files[0].key
        return Decision(kept, tuple(each for each in by_hand.chosen if each in keys and each != kept))
    under = {each.key for each in group.files if rule.under and rule.under in readable(each.uri)}
    keeper = next((each for each in group.files if each.key in under), group.files[0])
    most = _MOST_RANK[rule.pick]
    chosen = tuple(
        each.key
        for each in group.files
        if each is not keeper and each.key not in under and _RANK[kind_between(keeper, each)] <= most
    )
    return Decision(keeper.key, chosen)


def total(groups: Sequence[FileGroup], rule: Rule, by_hand: Mapping[str, Decision]) -> Totals:
    """What goes in all groups together."""
    files = size = changed = 0
    for group in groups:
        chosen = set(decide(group, rule, by_hand.get(group.key)).chosen)
        files += len(chosen)
        size += sum(each.image.byte_size for each in group.files if each.key in chosen)
        changed += bool(chosen)
    return Totals(files, size, changed)


@dataclass(frozen=True)
class Chosen:
    """A file that goes, and the one of its group that is kept."""

    file: CopyFile
    keeper: CopyFile
    group: str
    kind: Kind = field(default="exact")


def all_chosen(groups: Sequence[FileGroup], rule: Rule, by_hand: Mapping[str, Decision]) -> list[Chosen]:
    """Every file that goes, group by group. No URI is among them that some group keeps."""
    found: list[Chosen] = []
    kept: set[str] = set()
    for group in groups:
        decision = decide(group, rule, by_hand.get(group.key))
        files = {each.key: each for each in group.files}
        keeper = files[decision.keeper]
        gone = set(decision.chosen)
        kept |= {each.uri for each in group.files if each.key not in gone}
        found += [
            Chosen(each, keeper, group.key, kind_between(keeper, each)) for each in group.files if each.key in gone
        ]
    return [each for each in found if each.file.uri not in kept]
