"""What results say: sentences and tables, as text on a terminal, as HTML in a notebook, as data frames and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import QueryError
from ..storage.object_store import Remote

if TYPE_CHECKING:
    import pyarrow as pa

    from ..analysis.compare_configurations import ConfigurationComparison, MetricComparison
    from ..analysis.compare_studies import StudyComparison
    from ..query.blocks import Block


@dataclass(frozen=True, repr=False)
class Assessment:
    """What results say, with how far it can be trusted in `notes`.

    `text` is what the command prints and a notebook shows as HTML. `tables` are its numbers by name, as they were
    computed: errors as fractions, not rounded. `record` is the same as the command's `--json`.
    """

    text: str
    notes: tuple[str, ...]
    tables: Mapping[str, pa.Table]
    record: Mapping[str, Any] | Sequence[Any]
    blocks: tuple[Block, ...] = field(repr=False)

    def to_arrow(self, table: str | None = None) -> pa.Table:
        """Return one of `tables` (default: the first). Raises `QueryError` where there is none of this name."""
        names = list(self.tables)
        if table is not None and table not in names:
            raise QueryError(f"there is no table {table!r} here. Its tables are {', '.join(names)}")
        return self.tables[names[0] if table is None else table]

    def to_pandas(self, table: str | None = None) -> Any:
        """Return one of `tables` as a pandas data frame (default: the first).

        Raises `QueryError` where there is none of this name.
        """
        return self.to_arrow(table).to_pandas()

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        from ..query.blocks import html_of_blocks

        return html_of_blocks(self.blocks)


def of_leaderboard(places: Sequence[Path | Remote], n: int, by: str | None) -> Assessment:
    """Return the best configurations of studies."""
    from ..analysis import leaderboard
    from ..query.blocks import text_of_blocks
    from ..query.values import json_value

    best = leaderboard.top(places, n, by)
    blocks = tuple(best.blocks())
    record = json_value(best.table.to_pylist())
    return Assessment(text_of_blocks(blocks), best.notes, {"configurations": best.table}, record, blocks)


def of_effects(place: Path | Remote, by: str | None) -> Assessment:
    """Return the effects of the settings of a study: by value, and the importance of each."""
    import pyarrow as pa

    from ..analysis import summary

    judgement = summary.judge(Path(str(place)), by)
    values = [{"dimension": effect.name, **asdict(group)} for effect in judgement.effects for group in effect.groups]
    dimensions = [asdict(each) | {"is_noise": each.is_noise} for each in judgement.importance.dimensions]
    tables = {"values": pa.Table.from_pylist(values), "importance": pa.Table.from_pylist(dimensions)}
    blocks = tuple(summary.blocks(judgement))
    return Assessment(summary.text(judgement), judgement.notes, tables, judgement.to_plain(), blocks)


def of_studies(first: Path | Remote, second: Path | Remote) -> Assessment:
    """Return the comparison of two studies; its metrics are those of the best trial of each."""
    from ..analysis.compare_studies import compare_studies

    comparison = compare_studies(first, second)
    best = comparison.best
    notes = comparison.notes if best is None else (best.verdict, *comparison.notes)
    return _of_comparison(comparison, () if best is None else best.metrics, notes)


def of_configurations(first: tuple[Path | Remote, int | str], second: tuple[Path | Remote, int | str]) -> Assessment:
    """Return the comparison of two trials, each given with its study."""
    from ..analysis.compare_configurations import compare_configurations, configuration
    from ..query.query import trial_number

    one, other = (configuration(place, trial_number(place, trial)) for place, trial in (first, second))
    comparison = compare_configurations(one, other)
    return _of_comparison(comparison, comparison.metrics, (comparison.verdict, *comparison.notes))


def _of_comparison(
    comparison: ConfigurationComparison | StudyComparison, metrics: Sequence[MetricComparison], notes: tuple[str, ...]
) -> Assessment:
    import pyarrow as pa

    from ..analysis import compare_text

    names = (comparison.first, comparison.second)
    settings = [
        {
            "setting": each.setting,
            **dict(zip(names, map(compare_text.setting_text, (each.first, each.second)), strict=True)),
        }
        for each in comparison.settings
    ]
    tables = {
        "metrics": pa.Table.from_pylist([_row(each) for each in metrics]),
        "settings": pa.Table.from_pylist(settings),
    }
    record = compare_text.plain(comparison)
    return Assessment(compare_text.text(comparison), notes, tables, record, tuple(compare_text.blocks(comparison)))


def _row(metric: MetricComparison) -> dict[str, Any]:
    """Return a metric of two configurations as a row: both values, both intervals, their ratio with its interval."""
    row: dict[str, Any] = {"metric": metric.metric}
    for name, side in (("first", metric.first), ("second", metric.second)):
        row |= {name: side.value, f"{name}_low": side.low, f"{name}_high": side.high}
    contrast = metric.contrast
    ratio = (
        (None, None, None, None)
        if contrast is None
        else (contrast.ratio, contrast.low, contrast.high, contrast.told_apart)
    )
    return row | dict(zip(("ratio", "ratio_low", "ratio_high", "told_apart"), ratio, strict=True))


def of_error_budget(place: Path | Remote, trial: int | str, replicate: int) -> Assessment:
    """Return where the error of a trial comes from, and keep it for the report of its study."""
    import pyarrow as pa

    from ..query.blocks import Listing
    from ..query.query import trial_number
    from ..trial import error_budget

    row, record = error_budget.budget_of(place, trial_number(place, trial), replicate)
    error_budget.keep(place, row, record)
    budget, parts = error_budget.read(record), pa.Table.from_pylist(record["parts"])
    text = error_budget.text(place.name, row, record)
    notes = (f"Look first at: {budget.largest}. {budget.advice}", error_budget.NOT_A_SUM)
    return Assessment(text, notes, {"parts": parts}, record, (text.partition("\n")[0], Listing(parts), *notes))
