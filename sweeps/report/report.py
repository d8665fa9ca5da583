"""The report of a study: one HTML file with its figures inside, that loads nothing and runs no script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from pinncore.disk import write_whole
from pinncore.errors import PinnError

from ..errors import SpecError, StudyError, listed
from ..figures.drawing import Format
from ..inputs.opening import open_table
from ..query.ranking import dimensions
from ..query.text import duration, shown
from ..spec.study_spec import StudySpec
from ..spec.warnings import of_choices
from ..states import FAIL
from ..storage.object_store import uri_of
from ..storage.schema import metric_columns
from ..study.input_checks import FILE_CHECKS, warnings_of
from ..trial.tables import Row
from .answer import answer, ladder
from .budget import error_budget
from .cost import cost
from .data import ReportStudy, at_one_moment, distinct
from .field import maps, residual
from .gallery import Gallery
from .glossary import glossary
from .judgement import importance, pruning, what_to_try
from .page import Html, column_link, contents, document, paragraph, section, table, tag, tile
from .snippet import SEEDS, snippet
from .statement import statement
from .training import training
from .traps import traps
from .trials import against_settings, compromises, parallel, seed_spread
from .weights import weights


@dataclass(frozen=True)
class Written:
    """The files of a report: its page, and its figures where they were requested."""

    page: Path
    figures: tuple[Path, ...]


def write_report(
    study_dir: Path,
    out: Path | None = None,
    *,
    figures: Path | None = None,
    format: Format = "svg",
    force: bool = False,
) -> Written:
    """Write the report of a study as one HTML file: `out`, or `report.html` in the folder of the study.

    Where a folder `figures` is given, every picture is also written there as a separate file in that `format`; files of
    these names are replaced with `force` only. Raises `StudyError` where the folder is no study, a table is damaged, or
    a file cannot be written.
    """
    if out is None and uri_of(study_dir):
        raise StudyError(f"{uri_of(study_dir)}: the report must be a file on this machine. Name it with -o FILE.")
    target = Path(out) if out is not None else Path(study_dir) / "report.html"
    if not target.name or target.is_dir():
        raise StudyError(f"{target} is a folder, and the report is a file. Give the name of a file.")
    if not target.parent.is_dir():  # checked before anything is drawn
        raise StudyError(f"{target} cannot be written: there is no folder {target.parent}. Give another file.")

    def drawn(study: ReportStudy) -> tuple[str, Gallery]:
        gallery = Gallery(format if figures is not None else None)
        return _page(study, gallery), gallery

    page, gallery = at_one_moment(Path(study_dir), drawn)
    if figures is not None and not force:
        gallery.refuse_taken(figures)
    try:
        write_whole(target, page)
    except OSError as error:
        raise StudyError(f"{target} cannot be written: {error.strerror}. Give another file.") from None
    return Written(target, gallery.save(figures) if figures is not None else ())


def _page(study: ReportStudy, gallery: Gallery) -> str:
    best, result = study.best, _result(study, gallery)
    if best is None:
        parts = {
            "Results": _nothing_complete(study),
            "Pruning": pruning(study) if study.pruned.num_rows else Html(),
        }
    else:
        parts = {
            "Best": _best(study, best),
            "Next": what_to_try(study),
            "Error budget": error_budget(study, best, gallery),
            "Traps": traps(study, best),
            "Residual": residual(study, gallery),
            "Training": training(study, best, gallery),
            "Ranking": _ranking(study),
            "Seeds": seed_spread(study, gallery),
            "Compromises": compromises(study, gallery),
            "All settings": parallel(study, gallery),
            "Each setting": against_settings(study, gallery),
            "Importance": importance(study, gallery),
            "Pruning": pruning(study),
            "Weights": weights(study, best, gallery),
        }
    parts |= {"Cost": cost(study, gallery), "Failures": _failures(study), "Notes": _notes(study)}
    parts["Columns"] = glossary(study, [result, *parts.values()])
    return document(f"{study.name} · pinnsweep report", _header(study), result, contents(parts), _footer(study))


# ---- sections ------------------------------------------------------------------------------------------------------


def _header(study: ReportStudy) -> Html:
    search = study.file.get("search") or {}
    swept = ", ".join(dimensions(study.file)) or "nothing"
    lead = f"Search over {swept} with the sampler {search.get('sampler', 'random')} for the lowest "
    lead += " and ".join(study.ranking.objectives)
    if study.several:
        lead += f" (the {study.middle} of {study.ranking.replicates} replicates)"
    return tag(
        "header",
        tag("p", "pinnsweep report", class_="eyebrow"),
        tag("h1", study.name),
        tag("p", f"{lead}.", class_="lead"),
    )


def _problem(study: ReportStudy) -> Html:
    """Return the equations, with the settings of the best trial where there is one."""
    problem, values = study.problem, {} if study.best is None else study.problem_settings
    others = {*problem.data_settings, *problem.input_settings, *problem.loss_settings}
    structure = {
        setting.name: setting.default
        for setting in problem.settings
        if setting.is_own and setting.name not in others and not _is_number(setting.rule)
    }
    return statement(
        problem.title, problem.equations, problem.coordinates, problem.outputs, values, structure=structure
    )


def _is_number(rule: Any) -> bool:
    """Return whether a setting is a symbol in equations."""
    return _is_number(rule["of"]) if isinstance(rule, dict) and "of" in rule else rule == "float"


def _result(study: ReportStudy, gallery: Gallery) -> Html:
    """Return the first screen: equations, the best error, what it is worth, its field, and how much was trained."""
    facts = tag("div", *_facts(study), class_="tiles")
    if study.best is None:
        return Html(tag("section", _problem(study)) + facts)
    field = tag("div", maps(study, study.best, gallery), class_="field")
    parts = (_problem(study), answer(study, study.best), field, ladder(study, study.best), facts)
    return tag("section", *parts, class_="result")


def _facts(study: ReportStudy) -> Iterator[Html]:
    complete = study.ranked.num_rows + len(study.repeated)
    planned = (study.file.get("search") or {}).get("trials") or "all"
    yield tile(f"{complete:,}", f"of {planned} trials complete")
    yield tile(f"{study.failed.num_rows:,}", "failed")
    if study.pruned.num_rows:
        yield tile(f"{study.pruned.num_rows:,}", "pruned")
    rows = study.rows
    first, last = pc.min(rows["started_at"]).as_py(), pc.max(rows["finished_at"]).as_py()
    if first and last:
        yield tile(duration((last - first).total_seconds()), "from the first start to the last end")
        yield tile(duration(pc.sum(rows["seconds"]).as_py() or 0.0), "of training over all trials")
        yield tile(f"{pc.sum(rows['evaluations']).as_py() or 0:,}", "evaluations of loss and gradient")


def _nothing_complete(study: ReportStudy) -> Html:
    failed, pruned = study.failed.num_rows, study.pruned.num_rows
    if failed and not pruned:
        title = "The only trial so far failed" if failed == 1 else f"All {failed:,} trials so far failed"
        return section(title, tag("p", "The reasons are listed below. Figures appear with the first complete trial."))
    if pruned:
        text = f"Of the trials that ended, {failed:,} failed and {pruned:,} were pruned."
        return section("No trial is complete", tag("p", f"{text} Figures appear with the first complete trial."))
    return section("No finished trial yet", tag("p", "Figures appear with the first complete trial."))


def _best(study: ReportStudy, best: Row) -> Html:
    metrics = [*metric_columns(study.problem), "parameters", "evaluations", "seconds", "stop_reason"]
    pairs = [(name, shown(name, best[name], study.problem.in_per_cent)) for name in metrics if best[name] is not None]
    terms = [part for name, value in pairs for part in (tag("dt", column_link(name)), tag("dd", value))]
    notes = [f"Advice: {best['stop_advice']}"] if best.get("stop_advice") else []
    if study.several:
        replicate = f"replicate {best['replicate']}, the nearest to the {study.middle}"
        notes.insert(0, f"Numbers and pictures are those of {replicate}.")
    text = f"This study file trains it with {SEEDS} seeds, to show how far the results spread. One click selects it."
    study_file = tag("div", paragraph(text), tag("pre", snippet(study.name, study.file, study.source, best)))
    numbers = tag("div", tag("dl", *terms), *map(paragraph, notes))
    return section(f"Best configuration: trial {best['trial']}", tag("div", study_file, numbers, class_="split"))


def _ranking(study: ReportStudy) -> Html:
    ranked = study.leaderboard.shown().drop_columns("stop_reason")
    if "replicates" in ranked.column_names and set(ranked["replicates"].to_pylist()) == {study.ranking.replicates}:
        ranked = ranked.drop_columns("replicates")
    ranked = ranked.drop_columns([name for name in ranked.column_names if not len(ranked[name].drop_null())])
    rows = ranked.to_pylist()
    words = [name for name, value in rows[0].items() if isinstance(value, str)]
    cells = [[shown(name, value, study.problem.in_per_cent) for name, value in row.items()] for row in rows]
    title = f"The {len(rows)} best configurations" if len(rows) > 1 else "The best configuration"
    return section(title, *study.leaderboard.notes, table(ranked.column_names, cells, words=words, best=0))


def _failures(study: ReportStudy) -> Html:
    failed = study.rows.filter(pc.equal(study.rows["state"], FAIL))
    if not failed.num_rows:
        return Html()
    by_reason: dict[tuple[str, str], list[int]] = {}
    columns = (failed[name].to_pylist() for name in ("failure", "stop_reason", "trial"))
    for failure, reason, trial in sorted(zip(*columns, strict=True), key=lambda row: row[2]):
        by_reason.setdefault((failure or "", reason or ""), []).append(trial)
    rows = [
        [f"{len(trials):,}", reason, failure, listed(sorted(set(trials)))]
        for (failure, reason), trials in sorted(by_reason.items(), key=lambda item: -len(item[1]))
    ]
    words = ("stop_reason", "what went wrong", "which trials")
    notes = []
    if study.several:
        notes.append(
            "A trial counts as failed when so many of its replicates failed that it has no "
            f"{study.middle}. In other trials, a failed replicate counts as infinitely bad."
        )
    if study.again:
        notes.append(f"Trained again: {listed([f'{old} as {new}' for old, new in study.again])}.")
    heads = ("trainings" if study.several else "trials", *words)
    return section("Failures", *notes, table(heads, rows, words=words))


def _notes(study: ReportStudy) -> Html:
    warnings = [tag("li", text, class_="warning") for text in _study_warnings(study)]
    notes = []
    if study.repeated:
        text = f"Not trained, because another trial has the same configuration: {listed(study.repeated)}."
        notes.append(f"{text} They are left out of rankings and figures.")
    if sources := distinct(study.rows, "taken_from"):
        notes.append(f"Taken over and not trained here: {listed(sources)}.")
    if stop_reasons := Counter(reason or "" for reason in study.complete()["stop_reason"].to_pylist()):
        counted = ", ".join(f"{reason} {count:,}" for reason, count in stop_reasons.most_common())
        notes.append(f"How complete {'replicates' if study.several else 'trials'} stopped: {counted}.")
    about_data = tag("ul", *(tag("li", text) for text in _data_notes(study)))
    warned = tag("ul", *warnings) if warnings else Html()
    return section("Notes on the data and the study", warned, about_data, *notes)


def _study_warnings(study: ReportStudy) -> Iterator[str]:
    """Yield warnings about choices in the study file, or why it is no longer valid."""
    error = study.spec
    if isinstance(error, StudySpec):
        is_shipped = study.source.is_shipped  # otherwise the checks would run a user's code
        mistakes = [mistake for check in FILE_CHECKS if is_shipped for mistake in check(error, frozenset())]
        if not mistakes:
            yield from warnings_of(error) if is_shipped else of_choices(error)
            return
        error = SpecError(mistakes)
    yield f"The study file is no longer valid: {error}"


def _data_notes(study: ReportStudy) -> Iterator[str]:
    """Yield the notes of the reader of the data, and a sentence where the data are no longer those of the trials."""
    trained_on = distinct(study.rows, "data_hash")
    data_settings = study.problem.data_settings
    if any(name in data_settings for name in dimensions(study.file)):
        yield "The data were swept. Errors on different data cannot be compared."
    elif study.source.is_shipped:
        file, kind = study.file.get("problem") or {}, study.source.problem_class
        problem = kind(**{name: file[name] for name in data_settings if name in file}).reading(open_table)
        try:
            yield from problem.data_notes
            if trained_on and problem.data_sha256 not in trained_on:
                yield "The data read here are not those that the trials were trained on: their hashes differ."
        except PinnError as error:
            yield f"The data cannot be read here: {error}"
    yield from (f"SHA-256 of the data: {digest}" for digest in trained_on)


def _footer(study: ReportStudy) -> Html:
    if not study.rows.num_rows:
        return Html()

    def values(column: str) -> str:
        return ", ".join(distinct(study.rows, column)) or "unknown"

    last = pc.max(study.rows["finished_at"]).as_py()
    software = (
        f"pinnsweep {values('pinnsweep_version')}, torch {values('torch_version')}, Python {values('python_version')}; "
        f"engine {values('engine_used')} on {values('device')}"
    )
    end = f"; last trial {last.strftime('%Y-%m-%d %H:%M')} UTC" if last else ""
    return tag("footer", f"{software}{end}.")
