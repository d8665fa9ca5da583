"""The report of a study: one HTML file with its figures inside, that loads nothing and runs no script.

Every text goes through `_tag`, which escapes it; only what `_tag` itself made is taken as it is.
"""

from __future__ import annotations

import base64
import html
import importlib.resources
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pinncore.data import load_data
from pinncore.errors import PinnError
from pinncore.problems import PROBLEMS
from pinncore.settings import TrainSettings

from . import figures, specfile
from .errors import SpecError, StudyError
from .query import objective_of, read_study_file, swept_columns, top
from .rendering import PERCENT_COLUMNS, duration, printable, shown
from .spec import load_spec
from .store import StudyTables, column_of, config_of

CURVES_SHOWN = 100
ROWS_SHOWN = 10
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_VOID = ("img", "meta")


class _Html(str):
    """Text that is HTML already."""


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
    failed = sorted((row for row in rows if row["state"] != "COMPLETE"), key=lambda row: (row["trial"], row["replicate"]))
    return _Study(study_dir, file, tables, ranked, failed)


def _page(study: _Study) -> str:
    style = importlib.resources.files("sweeps").joinpath("report.css").read_text(encoding="utf-8")
    head = _tag("head", _tag("meta", charset="utf-8"),
                _tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
                _tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
                _tag("title", f"{study.name} · pinnsweep report"), _tag("style", _Html(style)))
    sections = [_header(study)]
    if study.best is None:
        sections.append(_section("No finished trial yet", _tag("p", "The figures come with the first one.")))
    else:
        sections += [_best(study, study.best), _fields(study, study.best), _training(study, study.best),
                     _against_settings(study), _ranking(study), _weights(study, study.best)]
    sections += [_failures(study), _notes(study), _footer(study)]
    return "<!doctype html>\n" + _tag("html", head, _tag("body", _tag("main", *sections)), lang="en") + "\n"


# ---- sections ------------------------------------------------------------------------------------------------------


def _header(study: _Study) -> _Html:
    search = study.file.get("search") or {}
    best = study.best
    tiles = []
    if best:
        tiles.append(_tile(_metric("rel_l2", best), "relative L2 error of the best trial", main=True))
        if study.objective != "rel_l2":
            tiles.append(_tile(_metric(study.objective, best), f"{study.objective} of it, the objective"))
    tiles.append(_tile(f"{len(study.ranked):,}", f"of {search.get('trials') or 'all'} trials complete"))
    tiles.append(_tile(f"{len(study.failed):,}", "failed"))
    starts = [row["started_at"] for row in study.rows if row["started_at"]]
    ends = [row["finished_at"] for row in study.rows if row["finished_at"]]
    if starts and ends:
        tiles.append(_tile(duration((max(ends) - min(starts)).total_seconds()), "from first start to last end"))
        evaluations = sum(row["evaluations"] or 0 for row in study.rows)
        tiles.append(_tile(f"{evaluations:,}", "evaluations of loss and gradient"))
    swept = ", ".join(study.file.get("space") or {}) or "nothing"
    lead = f"Searched over {swept}, with the sampler {search.get('sampler', 'random')}, for the smallest {study.objective}."
    return _tag("header", _tag("p", "pinnsweep report", class_="eyebrow"), _tag("h1", study.name),
                _tag("p", lead, class_="lead"), _tag("div", *tiles, class_="tiles"))


def _best(study: _Study, best: dict[str, Any]) -> _Html:
    metrics = ["rel_l2", "process_zone_error", "paper_metric", "distance_to_local", "heldout_residual",
               *(name for name in best if name == "loss" or name.startswith("loss_")), "grad_norm",
               "parameters", "evaluations", "stop_reason"]
    pairs = [(name, shown(name, best.get(name))) for name in metrics if best.get(name) is not None]
    pairs.append(("seconds", duration(best["seconds"])) if best.get("seconds") else ("seed", shown("seed", best["seed"])))
    listed = [part for name, value in pairs for part in (_tag("dt", name), _tag("dd", value))]
    advice = [_tag("p", f"Advice: {best['stop_advice']}", class_="quiet")] if best.get("stop_advice") else []
    return _section(
        f"Best configuration: trial {best['trial']}",
        _tag("div",
             _tag("div", _tag("p", "As a study file that trains it under ten seeds, to see how far they spread. "
                              "One click selects it.", class_="quiet"), _tag("pre", snippet(study.name, study.file, best))),
             _tag("div", _tag("dl", *listed), *advice), class_="split"))


def snippet(name: str, study_file: dict[str, Any], row: dict[str, Any]) -> str:
    """Return a study file that trains the configuration of a trials row alone: what was swept and what is no default."""
    config = config_of(row)
    swept = set(study_file.get("space") or {})
    problem = {"name": config["problem"].pop("name")}
    problem |= _worth_writing(PROBLEMS[problem["name"]], config["problem"], swept)
    content: dict[str, Any] = {
        "study": f"{name[:90]}-best",
        "problem": problem,
        "search": {"sampler": "random", "trials": 10},
        "train": _worth_writing(TrainSettings, config["train"], swept),
    }
    lines = [f"# Trial {row['trial']} of {printable(name)}: rel_l2 {_metric('rel_l2', row)}, seed {row['seed']}."]
    for key, value in content.items():  # one setting a line, which reads and edits better than a line a section
        if isinstance(value, dict):
            lines += [f"{key}:", *(f"  {_line(field, item)}" for field, item in value.items())]
        else:
            lines.append(_line(key, value))
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any) -> str:
    """One line of YAML: text bare where it reads back as itself, everything else as JSON, which YAML contains."""
    bare = f"{key}: {value}"
    try:
        if isinstance(value, str) and specfile.read(bare) == ({key: value}, []):
            return bare
    except SpecError:
        pass
    return f"{key}: {json.dumps(value, ensure_ascii=False)}"


def _worth_writing(settings: type, values: dict[str, Any], swept: set[str]) -> dict[str, Any]:
    defaults = {field.name: list(d) if isinstance(d := field.default, tuple) else d for field in fields(settings)}
    return {name: value for name, value in values.items() if name in swept or value != defaults.get(name)}


def _fields(study: _Study, best: dict[str, Any]) -> _Html:
    found = study.tables.read("fields", where=_is_trial(best)).to_pydict()
    field = {name: np.array(found[name], dtype=float) for name in ("x_mm", "y_mm", "predicted", "reference")}
    if len(field["x_mm"]) < 3:
        return _section("Field of the best trial", _tag("p", "It was not kept (results: fields in the study file).",
                                                        class_="quiet"))
    x_mm, y_mm, predicted, reference = field.values()
    known = bool(np.isfinite(reference).all())
    scale = reference if known else predicted
    limits = (min(0.0, float(scale.min())), float(scale.max()))
    number = best["trial"]
    pictures = [_picture(figures.strain_field(x_mm, y_mm, predicted, title="Predicted", limits=limits),
                         f"Non-local strain predicted by trial {number}")]
    if known:
        error = predicted - reference
        worst = int(np.abs(error).argmax())
        largest = f"largest {error[worst]:.3g} at x = {x_mm[worst]:.1f} mm, y = {y_mm[worst]:.1f} mm"
        pictures += [
            _picture(figures.strain_field(x_mm, y_mm, reference, title="Reference", limits=limits),
                     "Finite-element reference, on the same colour scale"),
            _picture(figures.strain_error(x_mm, y_mm, error, title="Error"),
                     f"Prediction minus reference at each Gauss point, {largest}"),
        ]
    told = (f"Non-local equivalent strain (dimensionless) at {len(x_mm):,} Gauss points, lengths in mm. "
            + ("Predicted and reference share one colour scale; the error's ends at its 99.5th percentile." if known
               else "The data have no reference field."))
    return _section("Field of the best trial", _tag("p", told, class_="quiet"),
                    _tag("div", *pictures, class_="figures three"))


def _training(study: _Study, best: dict[str, Any]) -> _Html:
    own = study.tables.read("curves", where=_is_trial(best)).to_pydict()
    if not own["step"]:
        return _section("Training", _tag("p", "No curves were kept.", class_="quiet"))
    pictures = [_picture(figures.training_curves(own, title=f"Trial {best['trial']}"),
                         "Loss, its terms and the error of the best trial over its evaluations, by phase", wide=True)]
    wanted = [row["trial"] for row in study.ranked[:CURVES_SHOWN]]
    several = study.tables.read("curves", columns=("trial", "evaluations", "rel_l2"),
                                where=ds.field("trial").isin(wanted)).drop_null()
    curves = {trial: (part["evaluations"].to_numpy(), part["rel_l2"].to_numpy())
              for trial in pc.unique(several["trial"]).to_pylist()
              if (part := several.filter(pc.equal(several["trial"], trial))).num_rows}
    if len(curves) > 1:
        title = f"The {len(curves)} best trials" if len(study.ranked) > CURVES_SHOWN else "All complete trials"
        pictures.append(_picture(figures.error_curves(curves, best=best["trial"], title=title),
                                 "Error of the trials over their evaluations, the best one standing out", wide=True))
    return _section("Training", _tag("p", "The loss does not rank trials, the error does: that is why both are drawn.",
                                     class_="quiet"), _tag("div", *pictures, class_="figures"))


def _against_settings(study: _Study) -> _Html:
    percent = study.objective in PERCENT_COLUMNS
    label = f"{study.objective} in %" if percent else study.objective
    errors = np.array([row[study.objective] for row in study.ranked]) * (100 if percent else 1)
    pictures = []
    for column, (name, dimension) in zip(swept_columns(study.file), (study.file.get("space") or {}).items(), strict=True):
        if study.ranked[0].get(column) is None:
            continue
        values, failed = ([row[column] for row in rows if row[column] is not None] for rows in (study.ranked, study.failed))
        scale = figures.guessed_scale([*values, *failed], kind=next(iter(dimension), ""))
        drawn = figures.error_against(name, values, errors, scale=scale, best=0, failed=failed, label=label)
        pictures.append(_picture(drawn, f"{study.objective} of every trial against {name}", caption=False))
    if not pictures:
        return _Html()
    told = f"One point a complete trial, the best one circled; bars are medians. {_sampler_caveat(study)}"
    return _section(f"{study.objective} against each swept setting", _tag("p", told, class_="quiet"),
                    _tag("div", *pictures, class_="figures three"))


def _sampler_caveat(study: _Study) -> str:
    """Say what such a picture cannot show, where the search was not even over the space."""
    adaptive = (study.file.get("search") or {}).get("sampler") == "tpe"
    return "The sampler drew more trials where it expected small values, so bars are no fair comparison." if adaptive else ""


def _ranking(study: _Study) -> _Html:
    table = top([study.folder], ROWS_SHOWN)
    numbers = [not isinstance(table.column(name)[0].as_py(), str) for name in table.column_names]
    rows = [[(shown(name, row[name]), number) for name, number in zip(table.column_names, numbers, strict=True)]
            for row in table.to_pylist()]
    return _section(f"The {table.num_rows} best trials" if table.num_rows > 1 else "The best trial",
                    _table(list(zip(table.column_names, numbers, strict=True)), rows, best=0))


def _weights(study: _Study, best: dict[str, Any]) -> _Html:
    found = study.tables.read("weights", where=_is_trial(best)).to_pydict()
    if not found["epoch"]:
        return _Html()
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
        pictures.append(_picture(figures.weight_maps(maps, title=title), f"Weights of layer {number} by epoch", wide=True,
                                 caption=False))
    told = "Rows are input units with the bias below, columns output units. After Adam an epoch is an L-BFGS iteration."
    return _section("Weights of the best trial by epoch", _tag("p", told, class_="quiet"),
                    _tag("details", _tag("summary", f"Show {len(pictures)} layers"), _tag("div", *pictures, class_="figures")))


def _failures(study: _Study) -> _Html:
    if not study.failed:
        return _Html()
    by_reason: dict[tuple[str, str], list[int]] = {}
    for row in study.failed:
        by_reason.setdefault((row["failure"] or "", row["stop_reason"] or ""), []).append(row["trial"])
    rows = [[(f"{len(trials):,}", True), (reason, False), (failure, False), (_listed(trials), False)]
            for (failure, reason), trials in sorted(by_reason.items(), key=lambda item: -len(item[1]))]
    return _section("Failures", _table([("trials", True), ("stop_reason", False), ("what went wrong", False),
                                        ("which", False)], rows))


def _notes(study: _Study) -> _Html:
    warnings = [_tag("li", text, class_="warning") for text in _study_warnings(study)]
    parts: list[_Html] = [_tag("ul", *warnings)] if warnings else []
    parts.append(_tag("ul", *(_tag("li", text) for text in _data_notes(study))))
    stops = Counter(row["stop_reason"] or "" for row in study.ranked)
    if stops:
        counted = ", ".join(f"{reason} {count:,}" for reason, count in stops.most_common())
        parts.append(_tag("p", f"How complete trials stopped: {counted}.", class_="quiet"))
    return _section("Notes on the data and the study", *parts)


def _study_warnings(study: _Study) -> Iterator[str]:
    try:
        yield from load_spec(study.folder / "study.yaml").warnings
    except SpecError as error:
        yield f"The study file can no longer be used as it is: {error}"
    best = study.best
    if best and _finite(best.get("distance_to_local")) and best["distance_to_local"] < 0.05:
        yield (f"The best prediction is within {shown('distance_to_local', best['distance_to_local'])} of the local strain: "
               "the identity u = e has no loss and is not the solution.")


def _data_notes(study: _Study) -> Iterator[str]:
    source = (study.file.get("problem") or {}).get("data", "strb100")
    trained_on = sorted({row["data_hash"] for row in study.rows if row["data_hash"]})
    try:
        data = load_data(source)
    except PinnError as error:
        yield f"The data cannot be read here: {error}"
    else:
        yield from data.notes
        if trained_on and data.sha256 not in trained_on:
            yield "The data read here are not those the trials were trained on: their hashes differ."
    if len(trained_on) > 1:
        yield "The trials were trained on different data, so their errors do not compare."
    yield from (f"SHA-256 of the data: {digest}" for digest in trained_on)


def _footer(study: _Study) -> _Html:
    def all_of(column: str) -> str:
        return ", ".join(sorted({str(row[column]) for row in study.rows if row[column]})) or "unknown"

    last = max((row["finished_at"] for row in study.rows if row["finished_at"]), default=None)
    told = (f"pinnsweep {all_of('pinnsweep_version')}, torch {all_of('torch_version')}, Python {all_of('python_version')}; "
            f"engine {all_of('engine_used')} on {all_of('device')}")
    ended = f"; last trial {last.strftime('%Y-%m-%d %H:%M')} UTC" if last else ""
    return _tag("footer", f"{told}{ended}.")


# ---- parts ---------------------------------------------------------------------------------------------------------


def _tag(element: str, /, *children: str, **attributes: str) -> _Html:
    """One element. Children and attributes are escaped; `class_` is class, `http_equiv` http-equiv."""
    inside = "".join(child if isinstance(child, _Html) else html.escape(child, quote=False) for child in children)
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items())
    return _Html(f"<{element}{written}>" if element in _VOID else f"<{element}{written}>{inside}</{element}>")


def _section(title: str, *children: _Html) -> _Html:
    return _tag("section", _tag("h2", title), *children)


def _tile(value: str, what: str, *, main: bool = False) -> _Html:
    return _tag("div", _tag("b", value), _tag("span", what), class_="tile main" if main else "tile")


def _picture(svg: bytes, description: str, *, wide: bool = False, caption: bool = True) -> _Html:
    """A picture inside the page; as an image of its own, its names cannot clash with another's."""
    source = "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
    image = _tag("div", _tag("img", src=source, alt=description), class_="picture scroll wide" if wide else "picture")
    return _tag("figure", image, *([_tag("figcaption", description)] if caption else []))


def _table(heads: Sequence[tuple[str, bool]], rows: Sequence[Sequence[tuple[str, bool]]], *, best: int = -1) -> _Html:
    """A table of (text, is it a number) cells; the row `best` stands out."""
    def cell(kind: str, text: str, number: bool) -> _Html:
        breakable = [_Html("_<wbr>") if part == "_" else part for part in re.split("(_)", text)] if kind == "th" else [text]
        return _tag(kind, *breakable, class_="number" if number else "text" if len(text) > 40 else "short")

    head = _tag("thead", _tag("tr", *(cell("th", *item) for item in heads)))
    body = [_tag("tr", *(cell("td", *item) for item in row), class_="best" if at == best else "row")
            for at, row in enumerate(rows)]
    return _tag("div", _tag("table", head, _tag("tbody", *body)), class_="scroll")


def _metric(name: str, row: dict[str, Any]) -> str:
    return shown(name, row.get(name)) or "not known"


def _is_trial(row: dict[str, Any]) -> ds.Expression:
    return (ds.field("trial") == row["trial"]) & (ds.field("replicate") == row["replicate"])


def _listed(trials: Sequence[int], most: int = 12) -> str:
    more = f" and {len(trials) - most:,} more" if len(trials) > most else ""
    return ", ".join(map(str, trials[:most])) + more


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
