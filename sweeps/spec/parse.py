"""From the text of a study file to a `StudySpec`, in one call that finds every mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Final

from pinncore.errors import ProblemError
from pinncore.problems import PROBLEMS
from pinncore.problems.record import ProblemRecord
from pinncore.problems.source import ProblemSource

from ..errors import NOT_GIVEN, Mistake, SpecError
from . import assembly, checks, configurations, model, yaml_text
from .configurations import OpenList
from .mistakes import Sections, in_file_order, mistakes_of, nearest
from .samplers import listing
from .study_spec import StudySpec

_MOST_ERRORS: Final = 1_000
LoadProblem = Callable[[str | None, Path], ProblemSource]  # from the name in a file, None where it has none, and base
FileCheck = Callable[[StudySpec, Set[str]], Iterable[Mistake]]  # the set: fields with a mistake already


def parse_spec(
    text: str,
    *,
    base: Path,
    load_problem: LoadProblem,
    overrides: Sequence[str] = (),
    open_list: OpenList | None = None,
    file_checks: Sequence[FileCheck] = (),
) -> StudySpec:
    """Return the study that the text of a study file describes; its relative paths start at `base`.

    No file is opened here. `load_problem` returns the problem that is named; it raises `KeyError` for an unknown name
    and `ProblemError` for a user's problem that cannot be used, which then is the only mistake. `open_list` opens
    the table that `search.list` names. `file_checks` find mistakes in the problem's class and in the tables, weights
    and studies that the text names; without them, these are assumed to exist and to fit. Raises `SpecError` with every
    mistake.
    """
    raw, mistakes = yaml_text.read(text)
    mistakes += yaml_text.override(raw, overrides)
    source, wrong_name = _problem(raw, base, load_problem)
    is_guessed = wrong_name is not None and not wrong_name.hint
    file_model = model.study_file(source.record)
    sections = Sections(model.section_keys(file_model), model.dimension_kinds(file_model))
    raw = {name: section for name, section in raw.items() if section is not None or name not in sections.keys}
    raw, table = configurations.with_rows(raw, base, sections.keys["space"], open_list)
    mistakes += table.mistakes if table else []
    reported = {mistake.path for mistake in mistakes}
    errors = model.errors(file_model, raw)
    mistakes += [m for m in mistakes_of(errors[:_MOST_ERRORS], raw, sections) if m.path not in reported]
    mistakes += [] if wrong_name is None else [wrong_name]
    if is_guessed:  # what is said of its settings is said of those of another problem
        of_settings = ("problem.", "space.", "search.list", "search.objective")
        others = [mistake for mistake in mistakes if not mistake.path.startswith(of_settings)]
        raise SpecError(in_file_order([*others, *filter(None, [wrong_name])], raw))
    if len(errors) > _MOST_ERRORS:
        rule = f"of {len(errors):,} mistakes only the first {_MOST_ERRORS:,} were looked at"
        raise SpecError([*configurations.abridge(in_file_order(mistakes, raw), table), Mistake("", NOT_GIVEN, rule)])
    mistakes += checks.structure_mistakes(raw, sections)
    unsure = checks.unsure_fields(mistakes, sections)
    content = assembly.readable_part(file_model, raw)
    parts, condition_mistakes = assembly.assemble(file_model, content, sections, base, unsure=unsure)
    mistakes += condition_mistakes
    unsure |= checks.unsure_fields(condition_mistakes, sections)
    spec = StudySpec(source=source, **{**parts, "problem": {**parts["problem"], "name": source.reference}})
    mistakes += checks.content_mistakes(spec, unsure=unsure)
    mistakes += [mistake for check in file_checks for mistake in check(spec, unsure)]
    if not mistakes and (values := yaml_text.count(spec.to_plain())) > yaml_text.MOST_VALUES:
        rule = f"a study may have {yaml_text.MOST_VALUES:,} keys and values with its defaults, this has {values:,}"
        mistakes.append(Mistake("", NOT_GIVEN, rule, "List fewer configurations, or split the study."))
    if mistakes:
        raise SpecError(configurations.abridge(in_file_order(mistakes, raw), table))
    return spec


def json_schema(records: Sequence[ProblemRecord]) -> dict[str, Any]:
    """Return the JSON schema of a study file, for editors that complete and check while the user types.

    It knows the settings of the problems in `records`, the first of which is that of a file that names none.
    """
    schema = model.study_file(*records, for_editors=True).model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _problem(raw: Mapping[str, Any], base: Path, load: LoadProblem) -> tuple[ProblemSource, Mistake | None]:
    """Return the problem that a file names; where there is none of this name, the nearest or default, and the mistake.

    Raises `SpecError` for a user's problem that cannot be used.
    """
    problem = raw.get("problem")
    name = problem.get("name") if isinstance(problem, dict) else None
    try:
        return load(name if isinstance(name, str) else None, base), None
    except KeyError:
        rule = f"must be {listing((*PROBLEMS, 'FILE.py:CLASS', 'PACKAGE.MODULE:CLASS'), 'or')}"
        near = nearest(str(name), PROBLEMS)
        hint = f"Did you mean {near[0]}?" if near else ""
        return load(near[0] if near else None, base), Mistake("problem.name", name, rule, hint)
    except ProblemError as error:
        raise SpecError([Mistake("problem.name", NOT_GIVEN, str(error).rstrip("."))]) from None
