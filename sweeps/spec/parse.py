"""From the text of a study file to a `StudySpec`, in one call that finds every mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Final

from pinncore.problems import PROBLEMS

from ..errors import NOT_GIVEN, Mistake, SpecError
from . import assembly, checks, configurations, model, yaml_text
from .configurations import OpenList
from .mistakes import Sections, in_file_order, mistakes_of
from .study_spec import StudySpec

_MOST_ERRORS: Final = 1_000
FileCheck = Callable[[StudySpec, Set[str]], Iterable[Mistake]]  # the set: fields with a mistake already


def parse_spec(
    text: str,
    *,
    base: Path,
    overrides: Sequence[str] = (),
    open_list: OpenList | None = None,
    file_checks: Sequence[FileCheck] = (),
) -> StudySpec:
    """Return the study that the text of a study file describes; its relative paths start at `base`.

    No file is opened here. `open_list` opens the table that `search.list` names. `file_checks` find
    mistakes in the tables, weights and studies that the text names; without them, these are assumed to exist and to
    fit. Raises `SpecError` with every mistake.
    """
    raw, mistakes = yaml_text.read(text)
    mistakes += yaml_text.override(raw, overrides)
    file_model = model.study_file((_problem_name(raw),))
    sections = Sections(model.section_keys(file_model), model.dimension_kinds(file_model))
    raw = {name: section for name, section in raw.items() if section is not None or name not in sections.keys}
    raw, table = configurations.with_rows(raw, base, sections.keys["space"], open_list)
    mistakes += table.mistakes if table else []
    reported = {mistake.path for mistake in mistakes}
    errors = model.errors(file_model, raw)
    mistakes += [m for m in mistakes_of(errors[:_MOST_ERRORS], raw, sections) if m.path not in reported]
    if len(errors) > _MOST_ERRORS:
        rule = f"of {len(errors):,} mistakes only the first {_MOST_ERRORS:,} were looked at"
        raise SpecError([*configurations.abridge(in_file_order(mistakes, raw), table), Mistake("", NOT_GIVEN, rule)])
    mistakes += checks.structure_mistakes(raw, sections)
    unsure = checks.unsure_fields(mistakes, sections)
    content = assembly.readable_part(file_model, raw)
    parts, condition_mistakes = assembly.assemble(file_model, content, sections, base, unsure=unsure)
    mistakes += condition_mistakes
    unsure |= checks.unsure_fields(condition_mistakes, sections)
    spec = StudySpec(**parts)
    mistakes += checks.content_mistakes(spec, unsure=unsure)
    mistakes += [mistake for check in file_checks for mistake in check(spec, unsure)]
    if not mistakes and (values := yaml_text.count(spec.to_plain())) > yaml_text.MOST_VALUES:
        rule = f"a study may have {yaml_text.MOST_VALUES:,} keys and values with its defaults, this has {values:,}"
        mistakes.append(Mistake("", NOT_GIVEN, rule, "List fewer configurations, or split the study."))
    if mistakes:
        raise SpecError(configurations.abridge(in_file_order(mistakes, raw), table))
    return spec


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a study file, for editors that complete and check while the user types."""
    schema = model.study_file(tuple(PROBLEMS)).model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _problem_name(raw: Mapping[str, Any]) -> str:
    """Return the problem that a file names, or the first problem where it names none that exists."""
    problem = raw.get("problem")
    name = problem.get("name") if isinstance(problem, dict) else None
    return name if isinstance(name, str) and name in PROBLEMS else next(iter(PROBLEMS))
