"""What a predicate of a stranger may hold: nothing whose cost or size grows with a number or a word that it names.

DuckDB's limits of memory and time end most of what is too large, but not what one function does for one row:
`range(2000000000)` takes 16 GB at once, and `repeat` does not look at the clock. So only functions are taken whose
answer is about as large as what they are given, and nothing that uses an answer twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from imagelake.errors import InputError

_MOST_FUNCTIONS = 64
_MOST_JOINED = 8
_OPERATORS = "+ - * / // % ** ^ ~~ !~~ ~~* !~~* ~~~ || -> ->> @> <@ &&"  # as DuckDB's parser calls them
_TEXTS = (
    "like_escape not_like_escape ilike_escape not_ilike_escape lower upper lcase ucase trim ltrim rtrim length len "
    "strlen substr substring left right contains starts_with prefix suffix ends_with regexp_matches regexp_full_match "
    "regexp_extract split_part strip_accents reverse position strpos instr ascii unicode concat parse_filename "
    "parse_dirname parse_dirpath"
)
_LISTS = (
    "list_value array_extract list_extract list_element array_slice list_slice list_contains array_contains list_has "
    "array_has list_has_any array_has_any list_has_all array_has_all list_position array_position list_length "
    "array_length cardinality struct_extract element_at unnest list_sort array_sort list_distinct array_distinct "
    "list_min list_max list_sum list_avg"
)
_NUMBERS = (
    "abs sign round floor ceil ceiling trunc sqrt cbrt pow power exp ln log log2 log10 sin cos tan asin acos atan "
    "atan2 radians degrees pi mod fmod greatest least isnan isinf isfinite bit_count xor hash random"
)
_TIMES = (
    "now today current_date get_current_timestamp current_timestamp year month day hour minute second quarter week "
    "weekday isodow dayofweek dayofmonth dayofyear isoyear weekofyear decade century epoch epoch_ms date_part datepart "
    "date_trunc datetrunc date_diff datediff date_sub datesub date_add age last_day dayname monthname make_date "
    "make_time make_timestamp strftime strptime try_strptime timezone to_years to_months to_weeks to_days to_hours "
    "to_minutes to_seconds to_milliseconds to_microseconds to_timestamp"
)
_OTHERS = (
    "coalesce ifnull nullif if typeof json_extract json_extract_string json_extract_path json_extract_path_text "
    "json_value json_exists json_contains json_array_length json_type json_valid count count_star min max sum avg "
    "any_value bool_and bool_or constant_or_null error"
)
FUNCTIONS = frozenset(f"{_OPERATORS} {_TEXTS} {_LISTS} {_NUMBERS} {_TIMES} {_OTHERS}".split())
"""What may be called, by the names that DuckDB's parser has for it."""

_CLASSES = frozenset(
    {"COLUMN_REF", "CONSTANT", "COMPARISON", "CONJUNCTION", "OPERATOR", "BETWEEN", "CASE"}
    | {"CAST", "COLLATE", "FUNCTION", "SUBQUERY", "TYPE", "STAR"}
)
_TABLES = frozenset({"BASE_TABLE", "JOIN", "EMPTY", "EXPRESSION_LIST"})
_JOINED = frozenset({"||", "concat"})
_ROWS = frozenset({"COLUMN_REF", "STAR", "SUBQUERY"})


def check_predicate(tree: Any) -> None:
    """Pass on a statement with a predicate that takes about as much memory as the rows that it looks at.

    Args:
        tree: of `SELECT ... WHERE (PREDICATE)`, as DuckDB's `json_serialize_sql` gives it.

    Raises:
        InputError: it has something else in it; the message says what.
    """
    parts = list(_parts(tree))
    called = [name for part in parts for name in _names(part)]
    for name in called:
        if name not in FUNCTIONS:
            raise InputError(
                f"The predicate calls {name[:60]}, which is not for predicates of others: it may make more than it "
                "is given. Use comparisons, LIKE, IN, list_contains, lower, date_part and the like; or ask `imagelake "
                "sql` on the machine of the lake, which has no such bounds."
            )
    if len(called) > _MOST_FUNCTIONS or sum(name in _JOINED for name in called) > _MOST_JOINED:
        raise InputError(
            f"The predicate calls {len(called)} functions; at most {_MOST_FUNCTIONS} may be called, and at most "
            f"{_MOST_JOINED} of them join texts. Ask for less."
        )
    for part in parts:
        fault = _fault(part)
        if fault:
            raise InputError(f"The predicate has {fault}, which predicates of others may not have. Say it another way.")


def _parts(tree: Any) -> Iterator[dict[str, Any]]:
    """All objects of a tree."""
    waiting = [tree]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each


def _names(part: dict[str, Any]) -> Iterator[str]:
    if "function_name" in part:
        yield str(part["function_name"]).lower()


def _fault(part: dict[str, Any]) -> str | None:
    """What a part is that is refused, in words; None where it is not."""
    kind, form = part.get("class"), part.get("type")
    if kind is not None and kind not in _CLASSES:
        return f"a part of the kind {str(kind).lower()[:40]}"
    if kind == "TYPE" and str(part.get("type_name", "")).lower() == "array":
        return "an array of a fixed length"
    if "list_value" in _names(part) and any(each.get("class") in _ROWS for each in _parts(part)):
        return "a list of other things than constants"
    if "where_clause" in part:
        return _fault_of_query(part)
    if kind is None and isinstance(form, str) and form.endswith("_NODE") and form != "SELECT_NODE":
        return "queries that are put together"
    return None


def _fault_of_query(part: dict[str, Any]) -> str | None:
    """What a query inside a predicate has that is refused."""
    if part.get("cte_map", {}).get("map"):
        return "a WITH"
    if any(each.get("alias") for each in part.get("select_list", ())):
        return "a column with a name of its own"  # another column could be made of it, and so on
    tables = [part.get("from_table")]
    while tables:
        table = tables.pop()
        if not isinstance(table, dict):
            continue
        if table.get("type") not in _TABLES:
            return "a table that is none of the lake's"
        tables += [table.get("left"), table.get("right")]
    return None
