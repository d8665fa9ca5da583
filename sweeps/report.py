"""The report of a study: one HTML file with its figures inside, that loads nothing and runs no script."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pinncore.data import load_data
from pinncore.errors import PinnError

from . import figures
from .errors import SpecError, StudyError
from .page import Html, document, picture, section, table, tag, tile
from .query import objective_of, read_study_file, swept_columns, top
from .rendering import PERCENT_COLUMNS, duration, shown
from .snippet import SEEDS, snippet
from .spec import load_spec
from .store import StudyTables

CURVES_SHOWN = 100
ROWS_SHOWN = 10
METRICS = ("rel_l2", "process_zone_error", "paper_metric", "distance_to_local", "heldout_residual")
IDENTITY_TRAP = 0.05  # relative distance to u = e below which a prediction is suspected to copy its forcing


@dataclass(frozen=True)
class _Study:
    """What the sections of the page draw on; `ranked` are the complete trials, best first."""

    folder: Path
    file: dict[str, Any]
    tables: StudyTables
    ranked: list[dict[str, Any]]
    failed: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return str(self.file.get("study", self.folder.name))

    @property
    def objective(self) -> str:
        return objective_of(self.file)

    @property
    def best(self) -> dict[str, Any] | None:
        return self.ranked[0] if self.ranked else None

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.ranked + self.failed


def write_report(study_dir: Path, out: Path | None = None) -> Path:
    """Write the report of a study as one HTML file, `report.html` in its folder unless `out` says otherwise.

    Raises `StudyError` for a folder that is no study, a damaged table, or a file that cannot be written.
    """
    target = Path(out) if out is not None else Path(study_dir) / "report.html"
    if not target.name or target.is_dir():
        raise StudyError(f"{target} is a folder, and the report is a file. Give a file's name.")
    page = _page(_read(Path(study_dir)))
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StudyError(f"{target} cannot be written: {error.strerror}. Give another file.") from None
    return target


def _read(study_dir: Path) -> _Study:
    file = read_study_file(study_dir)
    tables = StudyTables(study_dir)
    rows = tables.published_trials().to_pylist()
    objective = objective_of(file)
    ranked = [row for row in rows if row["state"] == "COMPLETE" and _finite(row.get(objective))]
    ranked.sort(key=lambda row: (row[objective], row["trial"], row["replicate"]))
    failed = sorted(
        (row for row in rows if row["state"] != "COMPLETE"), key=lambda row: (row["trial"], row["replicate"])
    )
    return _Study(study_dir, file, tables, ranked, failed)


def _page(study: _Study) -> str:
    sections = [_header(study)]
    if study.best is None:
        sections.append(section("No finished trial yet", tag("p", "The figures come with the first one.")))
    else:
        sections += [
            _best(study, study.best),
            _fields(study, study.best),
            _training(study, study.best),
            _against_settings(study),
            _ranking(study),
            _weights(study, study.best),
        ]
    sections += [_failures(study), _notes(study), _footer(study)]
    return document(f"{study.name} · pinnsweep report", *sections)


# ---- sections ------------------------------------------------------------------------------------------------------


def _header(study: _Study) -> Html:
    search = study.file.get("search") or {}
    best = study.best
    tiles = []
    if best:
        tiles.append(tile(_metric("rel_l2", best), "relative L2 error of the best trial", main=True))
        if study.objective != "rel_l2":
            tiles.append(tile(_metric(study.objective, best), f"{study.objective} of it, the objective"))
    tiles.append(tile(f"{len(study.ranked):,}", f"of {search.get('trials') or 'all'} trials complete"))
    tiles.append(tile(f"{len(study.failed):,}", "failed"))
    starts = [row["started_at"] for row in study.rows if row["started_at"]]
    ends = [row["finished_at"] for row in study.rows if row["finished_at"]]
    if starts and ends:
        tiles.append(tile(duration((max(ends) - min(starts)).total_seconds()), "from first start to last end"))
        spent = sum(row["seconds"] or 0.0 for row in study.rows)
        tiles.append(tile(duration(spent), "of training, all trials together"))
        evaluations = sum(row["evaluations"] or 0 for row in study.rows)
        tiles.append(tile(f"{evaluations:,}", "evaluations of loss and gradient"))
    swept = ", ".join(study.file.get("space") or {}) or "nothing"
    sampler = search.get("sampler", "random")
    lead = f"Searched over {swept}, with the sampler {sampler}, for the smallest {study.objective}."
    return tag(
        "header",
        tag("p", "pinnsweep report", class_="eyebrow"),
        tag("h1", study.name),
        tag("p", lead, class_="lead"),
        tag("div", *tiles, class_="tiles"),
    )


def _best(study: _Study, best: dict[str, Any]) -> Html:
    losses = [name for name in best if name == "loss" or name.startswith("loss_")]
    metrics = [*METRICS, *losses, "grad_norm", "parameters", "evaluations", "seconds", "stop_reason"]
    pairs = [(name, shown(name, best[name])) for name in metrics if best[name] is not None]
    listed = [part for name, value in pairs for part in (tag("dt", name), tag("dd", value))]
    advice = [tag("p", f"Advice: {best['stop_advice']}", class_="quiet")] if best.get("stop_advice") else []
    text = f"As a study file that trains it under {SEEDS} seeds, to see how far they spread. One click selects it."
    told, as_file = tag("p", text, class_="quiet"), tag("pre", snippet(study.name, study.file, best))
    return section(
        f"Best configuration: trial {best['trial']}",
        tag("div", tag("div", told, as_file), tag("div", tag("dl", *listed), *advice), class_="split"),
    )


def _fields(study: _Study, best: dict[str, Any]) -> Html:
    found = study.tables.read("fields", where=_is_trial(best)).to_pydict()
    field = {name: np.array(found[name], dtype=float) for name in ("x_mm", "y_mm", "predicted", "reference")}
    if len(field["x_mm"]) < 3:
        return section(
            "Field of the best trial", tag("p", "It was not kept (results: fields in the study file).", class_="quiet")
        )
    x_mm, y_mm, predicted, reference = field.values()
    known = bool(np.isfinite(reference).all())
    scale = reference if known else predicted
    limits = (min(0.0, float(scale.min())), float(scale.max()))
    number = best["trial"]
    pictures = [
        picture(
            figures.strain_field(x_mm, y_mm, predicted, title="Predicted", limits=limits),
            f"Non-local strain predicted by trial {number}",
        )
    ]
    if known:
        error = predicted - reference
        worst = int(np.abs(error).argmax())
        largest = f"largest {error[worst]:.3g} at x = {x_mm[worst]:.1f} mm, y = {y_mm[worst]:.1f} mm"
        pictures += [
            picture(
                figures.strain_field(x_mm, y_mm, reference, title="Reference", limits=limits),
                "Finite-element reference, on the same colour scale",
            ),
            picture(
                figures.strain_error(x_mm, y_mm, error, title="Error"),
                f"Prediction minus reference at each Gauss point, {largest}",
            ),
        ]
    told = f"Non-local equivalent strain (dimensionless) at {len(x_mm):,} Gauss points, lengths in mm. " + (
        "Predicted and reference share one colour scale; the error's ends at its 99.5th percentile."
        if known
        else "The data have no reference field."
    )
    return section(
        "Field of the best trial", tag("p", told, class_="quiet"), tag("div", *pictures, class_="figures three")
    )


def _training(study: _Study, best: dict[str, Any]) -> Html:
    own = study.tables.read("curves", where=_is_trial(best)).to_pydict()
    if not own["step"]:
        return section("Training", tag("p", "No curves were kept.", class_="quiet"))
    pictures = [
        picture(
            figures.training_curves(own, title=f"Trial {best['trial']}"),
            "Loss, its terms and the error of the best trial over its evaluations, by phase",
            wide=True,
        )
    ]
    wanted = [row["trial"] for row in study.ranked[:CURVES_SHOWN]]
    several = study.tables.read(
        "curves", columns=("trial", "evaluations", "rel_l2"), where=ds.field("trial").isin(wanted)
    ).drop_null()
    curves = {
        trial: (part["evaluations"].to_numpy(), part["rel_l2"].to_numpy())
        for trial in pc.unique(several["trial"]).to_pylist()
        if (part := several.filter(pc.equal(several["trial"], trial))).num_rows
    }
    if len(curves) > 1:
        title = f"The {len(curves)} best trials" if len(study.ranked) > CURVES_SHOWN else "All complete trials"
        pictures.append(
            picture(
                figures.error_curves(curves, best=best["trial"], title=title),
                "Error of the trials over their evaluations, the best one standing out",
                wide=True,
            )
        )
    told = "The loss does not rank trials, the error does. Boundary terms are drawn before their weight in the loss."
    return section(
        "Training",
        tag("p", told, class_="quiet"),
        tag("div", *pictures, class_="figures"),
    )


def _against_settings(study: _Study) -> Html:
    percent = study.objective in PERCENT_COLUMNS
    label = f"{study.objective} in %" if percent else study.objective
    errors = np.array([row[study.objective] for row in study.ranked]) * (100 if percent else 1)
    pictures = []
    dimensions = study.file.get("space") or {}
    for column, (name, dimension) in zip(swept_columns(study.file), dimensions.items(), strict=True):
        if column not in study.ranked[0]:
            continue  # a setting of another problem than this version knows
        values, failed = (
            ["none" if row[column] is None else row[column] for row in rows] for rows in (study.ranked, study.failed)
        )
        scale = figures.guessed_scale([*values, *failed], kind=next(iter(dimension), ""))
        drawn = figures.error_against(name, values, errors, scale=scale, best=0, failed=failed, label=label)
        pictures.append(picture(drawn, f"{study.objective} of every trial against {name}", caption=False))
    if not pictures:
        return Html()
    told = f"One point a complete trial, the best one circled; bars are medians. {_sampler_caveat(study)}"
    return section(
        f"{study.objective} against each swept setting",
        tag("p", told, class_="quiet"),
        tag("div", *pictures, class_="figures three"),
    )


def _sampler_caveat(study: _Study) -> str:
    """Say what such a picture cannot show, where the search was not even over the space."""
    if (study.file.get("search") or {}).get("sampler") != "tpe":
        return ""
    return "The sampler drew more trials where it expected small values, so bars are no fair comparison."


def _ranking(study: _Study) -> Html:
    ranked = top([study.folder], ROWS_SHOWN)
    heads = [(name, not isinstance(ranked.column(name)[0].as_py(), str)) for name in ranked.column_names]
    rows = [[(shown(name, row[name]), number) for name, number in heads] for row in ranked.to_pylist()]
    title = f"The {ranked.num_rows} best trials" if ranked.num_rows > 1 else "The best trial"
    return section(title, table(heads, rows, best=0))


def _weights(study: _Study, best: dict[str, Any]) -> Html:
    found = study.tables.read("weights", where=_is_trial(best)).to_pydict()
    if not found["epoch"]:
        return Html()
    epoch, layer, row, column, value = (np.array(found[n]) for n in ("epoch", "layer", "row", "column", "value"))
    pictures = []
    for number in np.unique(layer):
        maps = {}
        for at in np.unique(epoch):
            own = (layer == number) & (epoch == at)
            weights = np.full((row[own].max() + 2, column[own].max() + 1), np.nan)
            weights[np.where(row[own] < 0, -1, row[own]), column[own]] = value[own]
            maps[int(at)] = weights
        title = f"Layer {number}" + (", the output" if number == layer.max() else "")
        pictures.append(
            picture(
                figures.weight_maps(maps, title=title), f"Weights of layer {number} by epoch", wide=True, caption=False
            )
        )
    told = "Rows are input units with the bias below, columns output units. After Adam an epoch is an L-BFGS iteration."
    return section(
        "Weights of the best trial by epoch",
        tag("p", told, class_="quiet"),
        tag("details", tag("summary", f"Show {len(pictures)} layers"), tag("div", *pictures, class_="figures")),
    )


def _failures(study: _Study) -> Html:
    if not study.failed:
        return Html()
    by_reason: dict[tuple[str, str], list[int]] = {}
    for row in study.failed:
        by_reason.setdefault((row["failure"] or "", row["stop_reason"] or ""), []).append(row["trial"])
    rows = [
        [(f"{len(trials):,}", True), (reason, False), (failure, False), (_listed(trials), False)]
        for (failure, reason), trials in sorted(by_reason.items(), key=lambda item: -len(item[1]))
    ]
    return section(
        "Failures",
        table([("trials", True), ("stop_reason", False), ("what went wrong", False), ("which", False)], rows),
    )


def _notes(study: _Study) -> Html:
    warnings = [tag("li", text, class_="warning") for text in _study_warnings(study)]
    parts: list[Html] = [tag("ul", *warnings)] if warnings else []
    parts.append(tag("ul", *(tag("li", text) for text in _data_notes(study))))
    stops = Counter(row["stop_reason"] or "" for row in study.ranked)
    if stops:
        counted = ", ".join(f"{reason} {count:,}" for reason, count in stops.most_common())
        parts.append(tag("p", f"How complete trials stopped: {counted}.", class_="quiet"))
    return section("Notes on the data and the study", *parts)


def _study_warnings(study: _Study) -> Iterator[str]:
    try:
        yield from load_spec(study.folder / "study.yaml").warnings
    except SpecError as error:
        yield f"The study file can no longer be used as it is: {error}"
    near = study.best.get("distance_to_local") if study.best else None
    if near is not None and near < IDENTITY_TRAP:
        yield (
            f"The best prediction is within {shown('distance_to_local', near)} of the local strain: "
            "the identity u = e has no loss and is not the solution."
        )


def _data_notes(study: _Study) -> Iterator[str]:
    trained_on = sorted({row["data_hash"] for row in study.rows if row["data_hash"]})
    if "data" in (study.file.get("space") or {}):
        yield "The data were swept: errors on different data do not compare."
    else:
        yield from _notes_of((study.file.get("problem") or {}).get("data", "strb100"), trained_on)
    yield from (f"SHA-256 of the data: {digest}" for digest in trained_on)


def _notes_of(source: Any, trained_on: Sequence[str]) -> Iterator[str]:
    """What the reader of the data has to say, and whether they are still those of the trials."""
    try:
        data = load_data(source)
    except PinnError as error:
        yield f"The data cannot be read here: {error}"
        return
    yield from data.notes
    if trained_on and data.sha256 not in trained_on:
        yield "The data read here are not those the trials were trained on: their hashes differ."


def _footer(study: _Study) -> Html:
    def all_of(column: str) -> str:
        return ", ".join(sorted({str(row[column]) for row in study.rows if row[column]})) or "unknown"

    last = max((row["finished_at"] for row in study.rows if row["finished_at"]), default=None)
    told = (
        f"pinnsweep {all_of('pinnsweep_version')}, torch {all_of('torch_version')}, Python {all_of('python_version')}; "
        f"engine {all_of('engine_used')} on {all_of('device')}"
    )
    ended = f"; last trial {last.strftime('%Y-%m-%d %H:%M')} UTC" if last else ""
    return tag("footer", f"{told}{ended}.")


def _metric(name: str, row: dict[str, Any]) -> str:
    return shown(name, row.get(name)) or "not known"


def _is_trial(row: dict[str, Any]) -> ds.Expression:
    return (ds.field("trial") == row["trial"]) & (ds.field("replicate") == row["replicate"])


def _listed(trials: Sequence[int], most: int = 12) -> str:
    more = f" and {len(trials) - most:,} more" if len(trials) > most else ""
    return ", ".join(map(str, trials[:most])) + more


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
