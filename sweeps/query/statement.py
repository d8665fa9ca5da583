"""The check of an SQL statement before it runs: it may only read, and only tables of the studies."""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Collection, Iterator, Sequence, Set
from typing import Any, Final

import duckdb

from ..errors import QueryError
from ..own_name import own_name
from ..spec.samplers import listing

LONGEST: Final = 50_000  # characters; much longer statements may nest deeper than the stack of the parser
_READING_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_TAKING_A_TABLE = frozenset({"histogram", "histogram_values"})
_OURS = frozenset({"main", "memory.main"})  # where the tables of the studies are
_TABLE_FUNCTIONS = _TAKING_A_TABLE | {"unnest", "range", "generate_series", "repeat", "json_each", "json_tree"}


def checked_tree(connection: duckdb.DuckDBPyConnection, sql: str, tables: Collection[str]) -> Any:
    """Return the parsed statement. Raises `QueryError` unless `sql` is one statement that only reads `tables`."""
    if len(sql) > LONGEST:
        raise QueryError(f"a statement may be at most {LONGEST:,} characters long, got {len(sql):,}. Split it.")
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        message = plain_message(str(error))
        if 'at or near "column"' in message:
            message += '\n"column" is a reserved word: to read the column of that name, write it in double quotes.'
        raise QueryError(message) from None
    if not statements:
        raise QueryError("a query is one statement, got none. Try: SELECT trial, rel_l2 FROM trials ORDER BY rel_l2")
    if len(statements) > 1:
        raise QueryError(f"a query is one statement, got {len(statements)}. Run them one at a time.")
    kind = _kind(statements[0])
    if kind == "MULTI":
        raise QueryError(
            "a PIVOT must list its columns, because it creates a type otherwise: PIVOT ... ON width IN (8, 16) ..."
        )
    if kind != "SELECT":
        raise QueryError(f"a query may only read (SELECT, WITH, DESCRIBE, SUMMARIZE, SHOW), got {kind}")
    try:
        serialized = connection.execute("SELECT json_serialize_sql($1)", [sql]).fetchall()[0][0]
        tree = json.loads(serialized)
    except (duckdb.Error, RecursionError):
        raise QueryError("the statement is nested too deeply to be checked. Split it.") from None
    if tree["error"]:
        raise QueryError(f"the statement cannot be checked: {tree['error_message']}")
    # of the database itself, found without their schema
    views = connection.execute(
        "SELECT lower(view_name) FROM duckdb_views() WHERE schema_name <> 'information_schema'"
    ).fetchall()
    _refuse_more_than_reading(tree, tables, {name for (name,) in views})
    return tree


def _kind(statement: duckdb.Statement) -> str:
    try:
        return statement.type.name
    except ValueError:  # a kind without a name in DuckDB's Python package
        return "another statement"


def _refuse_more_than_reading(tree: Any, tables: Collection[str], internal: Set[str]) -> None:
    common = {entry["key"].lower() for node in _nodes(tree) for entry in (node.get("cte_map") or {}).get("map", ())}
    if reserved := sorted(common & internal):
        raise QueryError(f"a query may not call a table of its own {reserved[0]!r}, as the database does. Rename it")
    names = {*tables, *common}
    for node in _nodes(tree):
        kind = node.get("type")
        if kind == "VALUE_PARAMETER":
            raise QueryError("a query has no parameters, got $ or ?. Write the value in the statement.")
        if "cte_map" in node and kind not in _READING_NODES:
            raise QueryError(f"a query may only read, got {str(kind).removesuffix('_QUERY_NODE')} inside it")
        name = _function(node)
        if name is not None and name not in _TABLE_FUNCTIONS:
            raise QueryError(
                f"a query may only read the tables of the studies ({', '.join(tables)}), got {name}(...). "
                f"Allowed table functions: {', '.join(sorted(_TABLE_FUNCTIONS))}."
            )
        if name in _TAKING_A_TABLE and (_source(node) or "").lower() not in tables:
            raise QueryError(f"the first argument of {name}, without its name, must be one of {', '.join(tables)}")
        place = [node[part] for part in ("catalog_name", "schema_name", "table_name") if node.get(part)]
        if len(place) > 1 and (".".join(place[:-1]).lower() not in _OURS or place[-1].lower() not in tables):
            raise QueryError(f"the tables of a query have names without a dot, got {'.'.join(place)[:100]!r}")
        name = _table(node)
        if name is not None and name.lower() not in names:
            raise QueryError(f"there is no table {name!r}." + did_you_mean(name, sorted(names), "Tables"))


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a parsed statement, in a loop, because statements may nest deeper than Python recurses."""
    pending = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            yield item
        pending.extend(item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())


def names_used(tree: Any, tables: Collection[str]) -> list[str]:
    """Return which of `tables` a statement names; all of them where it passes one to a function."""
    if any(name in _TAKING_A_TABLE for name in map(_function, _nodes(tree))):
        return list(tables)
    named = {name.lower() for name in map(_table, _nodes(tree)) if name is not None}
    return [table for table in tables if table in named]


def shows_tables(tree: Any) -> bool:
    """Return whether a statement is SHOW TABLES or similar, not SHOW trials."""
    return any(_is_bare_show(node) and node["show_type"] != "SHOW" for node in _nodes(tree))


def _table(node: dict[str, Any]) -> str | None:
    """Return the name of the table that a node reads, None for other nodes."""
    is_named = _is_bare_show(node) and node["show_type"] == "SHOW"
    return node["table_name"] if is_named or node.get("type") == "BASE_TABLE" else None


def _is_bare_show(node: dict[str, Any]) -> bool:
    return node.get("type") == "SHOW_REF" and node.get("query") is None


def _source(node: dict[str, Any]) -> str | None:
    """Return the table in the first argument of a function that takes one, which may be its name as text.

    None where that is anything else, or the table is passed by the name of the argument.
    """
    arguments = node["function"]["arguments"]
    if any(argument["name"].lower() == "source" for argument in arguments):
        return None
    for argument in arguments[:1]:
        expression = argument["expression"]
        if argument["name"]:
            return None
        if expression["type"] == "VALUE_CONSTANT" and expression["literal"]["kind"] == "STRING":
            return str(expression["literal"]["text"])
        if expression["type"] == "COLUMN_REF" and len(expression["column_names"]) == 1:
            return str(expression["column_names"][0])
    return None


def _function(node: dict[str, Any]) -> str | None:
    """Return the name of the table function that a node calls, None for other nodes."""
    return node["function"]["function_name"].lower() if node.get("type") == "TABLE_FUNCTION" else None


def plain_message(error: str) -> str:
    """Return DuckDB's message without its class and blank lines; the caret line stays, because it shows the place."""
    lines = [line.rstrip() for line in error.splitlines() if line.strip()]
    return re.sub(r"^[A-Za-z ]+ Error: ", "", "\n".join(lines))


def did_you_mean(wanted: str, known: Sequence[str], what: str) -> str:
    """Return sentences for the end of a message: the names closest to a wrong one, and all known ones."""
    return f"{_closest(wanted, known)} {what}: {', '.join(known)}."


def column_hint(wanted: str, columns: Sequence[str], table: str = "TABLE") -> str:
    """Return sentences for the end of a message on a wrong column: the closest ones, and how to see all of a table."""
    all_columns = shlex.quote(f".schema {table}")
    return f"{_closest(wanted, columns)} To see all columns: {own_name()} query STUDY {all_columns}"


def _closest(wanted: str, known: Sequence[str]) -> str:
    word = wanted.lower()
    parts = [name for name in known if word in name] if len(word) > 2 else []
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.6) or parts[:3]
    return f" Did you mean {listing(close, 'or')}?" if close else ""


def quoted(column: str) -> str:
    """Return the name of a column as SQL."""
    return '"' + column.replace('"', '""') + '"'


def sql_text(*values: str) -> str:
    """Return texts as SQL, separated by commas."""
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)
