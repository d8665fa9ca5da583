"""One SQL statement, taken apart before it runs: whether it only reads, and only the study's own tables."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import duckdb

from ..errors import QueryError

LONGEST: Final = 50_000  # characters of a statement: far longer ones may nest deeper than the parser's stack
_READING_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_TAKING_A_TABLE = frozenset({"histogram", "histogram_values"})
_TABLE_FUNCTIONS = _TAKING_A_TABLE | {"unnest", "range", "generate_series", "repeat", "json_each", "json_tree"}


def checked_tree(connection: duckdb.DuckDBPyConnection, sql: str, tables: Collection[str]) -> Any:
    """Return the parsed statement. Raises `QueryError` unless it is one statement that reads `tables` only."""
    if len(sql) > LONGEST:
        raise QueryError(f"a statement may be {LONGEST:,} characters long, got {len(sql):,}. Split it.")
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(_with_reserved_word(plain_message(str(error)))) from None
    if not statements:
        raise QueryError("a query is one statement, got none. Try: SELECT trial, rel_l2 FROM trials ORDER BY rel_l2")
    if len(statements) > 1:
        raise QueryError(f"a query is one statement, got {len(statements)}. Ask them one at a time.")
    kind = _kind(statements[0])
    if kind == "MULTI":
        raise QueryError("a PIVOT must list its columns, so that it only reads: PIVOT ... ON width IN (8, 16) ...")
    if kind != "SELECT":
        raise QueryError(f"a query only reads (SELECT, WITH, DESCRIBE, SUMMARIZE, SHOW), got {kind}")
    try:
        serialized = connection.execute("SELECT json_serialize_sql($1)", [sql]).fetchall()[0][0]
        tree = json.loads(serialized)
    except (duckdb.Error, RecursionError):
        raise QueryError("the statement is nested too deeply to be checked. Split it.") from None
    if tree["error"]:
        raise QueryError(f"the statement cannot be checked: {tree['error_message']}")
    _refuse_more_than_reading(tree, tables)
    return tree


def _kind(statement: duckdb.Statement) -> str:
    try:
        return statement.type.name
    except ValueError:  # a kind that DuckDB's Python package has no name for
        return "another statement"


def _refuse_more_than_reading(tree: Any, tables: Collection[str]) -> None:
    common = set(tables) | {entry["key"].lower() for node in _nodes(tree) for entry in _common_tables(node)}
    for node in _nodes(tree):
        kind = node.get("type")
        if kind == "VALUE_PARAMETER":
            raise QueryError("a query has no parameters, got $ or ?. Write the value itself.")
        if "cte_map" in node and kind not in _READING_NODES:
            raise QueryError(f"a query only reads, got {str(kind).removesuffix('_QUERY_NODE')} inside it")
        name = _function(node)
        if name is not None and name not in _TABLE_FUNCTIONS:
            raise QueryError(
                f"a query reads only the study's tables ({', '.join(tables)}), got {name}(...). "
                f"Functions that make rows: {', '.join(sorted(_TABLE_FUNCTIONS))}."
            )
        name = _table(node)
        if name is not None and name.lower() not in common:
            raise QueryError(f"no table is called {name!r}." + did_you_mean(name, sorted(common), "Tables"))


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of a parsed statement; a loop, because statements nest deeper than Python recurses."""
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
        waiting.extend(item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())


def _common_tables(node: dict[str, Any]) -> list[dict[str, Any]]:
    found = node.get("cte_map")
    return found["map"] if isinstance(found, dict) else []


def names_used(tree: Any, tables: Collection[str]) -> list[str]:
    """Return which of `tables` a statement names; all where it hands one to a function."""
    if any(name in _TAKING_A_TABLE for name in map(_function, _nodes(tree))):
        return list(tables)
    named = {name.lower() for name in map(_table, _nodes(tree)) if name is not None}
    return [table for table in tables if table in named]


def shows_tables(tree: Any) -> bool:
    """Return whether a statement is SHOW TABLES or its like, and not SHOW trials."""
    return any(_is_bare_show(node) and node["show_type"] != "SHOW" for node in _nodes(tree))


def _table(node: dict[str, Any]) -> str | None:
    """The name of the table that a node reads, where it is one."""
    is_named = _is_bare_show(node) and node["show_type"] == "SHOW"
    return node["table_name"] if is_named or node.get("type") == "BASE_TABLE" else None


def _is_bare_show(node: dict[str, Any]) -> bool:
    return node.get("type") == "SHOW_REF" and node.get("query") is None


def _function(node: dict[str, Any]) -> str | None:
    """The name of the function that makes rows, where a node is one."""
    return node["function"]["function_name"].lower() if node.get("type") == "TABLE_FUNCTION" else None


def plain_message(error: str) -> str:
    """DuckDB's message without its class and blank lines; the caret line stays, it shows the place."""
    lines = [line.rstrip() for line in error.splitlines() if line.strip()]
    return re.sub(r"^[A-Za-z ]+ Error: ", "", "\n".join(lines))


def _with_reserved_word(message: str) -> str:
    reserved = 'at or near "column"' in message
    return message + (
        '\nThe column is called "column", a reserved word: write it in double quotes.' if reserved else ""
    )


def did_you_mean(wanted: str, known: Sequence[str], what: str = "Known") -> str:
    """Return the names nearest to a wrong one, and all there are, as sentences that follow a complaint."""
    close = difflib.get_close_matches(wanted.lower(), known, n=3, cutoff=0.6)
    meant = f" Did you mean {' or '.join(close)}?" if close else ""
    return f"{meant} {what}: {', '.join(known)}."
