"""Commands that judge results: which are best, which of two is better, what decided it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import QueryError, StudyError
from .options import DEFAULT_ROOT, AsJson, Root, Studies, Study, print_json, study_place

if TYPE_CHECKING:
    from ..analysis.compare_configurations import ConfigurationComparison
    from ..analysis.compare_studies import StudyComparison

By = Annotated[str | None, typer.Option("--by", metavar="METRIC", help="Column (default: the objective).")]
Target = Annotated[str, typer.Argument(metavar="STUDY|STUDY/TRIAL", help="A study, or one trial of it: runs/first/3.")]


def top(
    studies: Studies,
    number: Annotated[int, typer.Option("-n", min=1, help="How many configurations.")] = 10,
    by: By = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """List the best configurations and which of them may be the best.

    Seeds of one configuration stand in one line, of several studies too, with a 95 % interval from five seeds on.
    """
    places = [study_place(study, root) for study in studies]
    from ..analysis import leaderboard
    from ..query.text import render

    best = leaderboard.top(places, number, by)
    if as_json:
        typer.echo(render(best.table, "json"))
        return
    listed = [render(best.shown())] if best.table.num_rows else []
    typer.echo("\n\n".join([*listed, *best.notes]))


def compare(first: Target, second: Target, root: Root = DEFAULT_ROOT, as_json: AsJson = False) -> None:
    """Compare two studies, or two configurations of studies.

    Studies: what differs, best against best, equal configurations in pairs. Configurations, as STUDY/TRIAL: every
    metric over the seeds, and whether they can be told apart.
    """
    targets = [_target(each, root) for each in (first, second)]
    from ..analysis.compare_configurations import compare_configurations, configuration
    from ..analysis.compare_studies import compare_studies
    from ..analysis.compare_text import plain, text

    (one, trial), (other, number) = targets
    found: ConfigurationComparison | StudyComparison
    if trial is not None and number is not None:
        found = compare_configurations(configuration(one, trial), configuration(other, number))
    elif trial is None and number is None:
        found = compare_studies(one, other)
    else:
        raise QueryError(
            f"two studies or two trials are compared, got {first} and {second}. Write STUDY/TRIAL for both."
        )
    if as_json:
        print_json(plain(found))
    else:
        typer.echo(text(found))


def _target(given: str, root: Path) -> tuple[Path, int | None]:
    """A study and, of STUDY/TRIAL, the number of the trial. Raises `StudyError`."""
    study, _, number = given.rstrip("/").rpartition("/")
    try:
        return study_place(Path(given), root), None
    except StudyError:
        if not (study and number.isdecimal()):
            raise
        return study_place(Path(study), root), int(number)


def effects(study: Study, by: By = None, root: Root = DEFAULT_ROOT, as_json: AsJson = False) -> None:
    """Say which hyperparameters mattered, how, and what to try next.

    Importance by PED-ANOVA with its noise, the marginal effect of each dimension, failures by its values, how well
    rungs foretell the end, and bounds of the space that the best trials press against.
    """
    place = study_place(study, root)
    from ..analysis import summary as judgement

    found = judgement.judge(place, by)
    if as_json:
        print_json(found.to_plain())
    else:
        typer.echo(judgement.text(found))
