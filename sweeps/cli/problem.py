"""The commands on problems and first files: `problem`, `init`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ..errors import StudyError
from ..own_name import own_name
from .options import AsJson, Force, print_json, refuse_taken
from .printing import print_text

STUDY_SUFFIXES = (".yaml", ".yml")


def problem(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A shipped problem, FILE.py:CLASS or PACKAGE.MODULE:CLASS (default: list the shipped ones).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a problem: equation, settings, loss terms, engine."""
    from pinncore.problems import PROBLEMS
    from pinncore.problems.source import ProblemSource

    from ..study import about_problem
    from ..study.problems import load_problem

    def loaded(wanted: str) -> ProblemSource:
        try:
            return load_problem(wanted, Path())
        except KeyError:
            shipped = ", ".join(PROBLEMS)
            raise StudyError(
                f"there is no problem {wanted!r}. Shipped: {shipped}; one of your own is FILE.py:CLASS"
            ) from None

    if name is None:
        titles = {each: loaded(each).record.title for each in PROBLEMS}
        lines = [f"{each:<{max(map(len, PROBLEMS))}}  {title}" for each, title in titles.items()]
        print_json(titles) if as_json else print_text("\n".join(lines))
        return
    about = about_problem.about_problem(loaded(name))
    print_json(about) if as_json else print_text(about_problem.text(about))


def init(
    name: Annotated[
        Path,
        typer.Argument(
            metavar="NAME|FILE",
            help="FILE.yaml: a study file. NAME or NAME.py:CLASS: NAME.py for an equation of your own, and its study "
            "NAME.yaml.",
        ),
    ] = Path("study.yaml"),
    of: Annotated[
        str | None,
        typer.Option("--problem", metavar="PROBLEM", help="Problem of the study file (default: nonlocal_strain)."),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a study file to start from, or a problem of your own.

    Both run as they stand. The study file has every other key with its default and meaning below its twelve lines.
    """
    from pinncore.disk import write_whole

    from ..spec.template import starter, study_name, study_template
    from ..study.problems import load_problem

    is_study = name.suffix in STUDY_SUFFIXES
    before, _, kind = name.name.partition(".py:")  # as a study file would name it
    name = name.with_name(before.removesuffix(".py"))
    file = name if is_study else name.with_name(f"{name.name}.yaml")
    study = study_name(file.stem)
    if is_study or of is not None:
        refuse_taken(file, force=force)
        try:
            source = load_problem(of, Path())
        except KeyError:
            raise StudyError(f"there is no problem {of!r}: {own_name()} problem lists those that are shipped") from None
        written = {file: study_template(study, source)}
    else:
        code = name.with_name(f"{name.name}.py")
        written = dict(zip((code, file), starter(study, code.name, kind), strict=True))
        refuse_taken(*written, force=force)
    for path, text in written.items():
        write_whole(path.absolute(), text)
    if as_json:
        print_json({"files": list(map(str, written)), "study": study})
        return
    words, files = shlex.quote(str(file)), " and ".join(map(str, written))
    commands = [f"problem {shlex.quote(str(path))}" for path in written if path != file]
    commands += [f"plan {words}", f"run {words}"]
    lines = [f"  {own_name()} {command}" for command in commands]
    typer.echo("\n".join([f"wrote {files}: the study {study}. Next:", *lines]))
