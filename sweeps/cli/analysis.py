"""The commands that judge results: `top`, `compare`, `effects`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import QueryError, StudyError
from .options import DEFAULT_ROOT, AsJson, Root, Studies, Study, print_json, study_names, study_place
from .printing import print_text

if TYPE_CHECKING:
    from ..analysis.compare_configurations import ConfigurationComparison
    from ..analysis.compare_studies import StudyComparison

By = Annotated[
    str | None,
    typer.Option(
        "--by", metavar="METRIC", help="Metric, or another column of numbers, to judge by (default: the objective)."
    ),
]
First = Annotated[
    str,
    typer.Argument(
        metavar="FIRST",
        help="A study, or a trial of one: runs/widths, runs/widths/3, runs/widths/best.",
        autocompletion=study_names,
    ),
]
Second = Annotated[str, typer.Argument(metavar="SECOND", help="Another of the same kind.", autocompletion=study_names)]


def top(
    studies: Studies,
    number: Annotated[int, typer.Option("-n", metavar="N", min=1, help="Number of configurations.")] = 10,
    by: By = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Rank the configurations and mark those that may be the best.

    All seeds of a configuration are one line, also across studies, with a 95 % interval if there are at least five.
    """
    places = [study_place(study, root) for study in studies]
    from ..analysis import leaderboard
    from ..query.blocks import text_of_blocks
    from ..query.text import render

    best = leaderboard.top(places, number, by)
    if as_json:
        typer.echo(render(best.table, "json"))
        return
    print_text(text_of_blocks(best.blocks()))


def compare(first: First, second: Second, root: Root = DEFAULT_ROOT, as_json: AsJson = False) -> None:
    """Compare two studies, or two configurations of studies.

    Of two studies: the settings that differ, the best trials, and the configurations that both contain. Of two
    configurations, each given as STUDY/TRIAL: every metric over the seeds, and whether they can be told apart.
    """
    targets = [_target(argument, root) for argument in (first, second)]
    from ..analysis.compare_configurations import compare_configurations, configuration
    from ..analysis.compare_studies import compare_studies
    from ..analysis.compare_text import plain, text

    (one, trial), (other, number) = targets
    comparison: ConfigurationComparison | StudyComparison
    if trial is not None and number is not None:
        comparison = compare_configurations(configuration(one, trial), configuration(other, number))
    elif trial is None and number is None:
        comparison = compare_studies(one, other)
    else:
        raise QueryError(
            f"compare takes two studies or two trials, got {first} and {second}. Write STUDY/TRIAL for both."
        )
    if as_json:
        print_json(plain(comparison))
    else:
        print_text(text(comparison))


def _target(argument: str, root: Path) -> tuple[Path, int | None]:
    """Return the study and, for STUDY/TRIAL, the number of the trial. Raises `StudyError` where there is no study."""
    study, _, trial = argument.rstrip("/").rpartition("/")
    try:
        return study_place(Path(argument), root), None
    except StudyError:
        if not (study and (trial.isdecimal() or trial == "best")):
            raise
    from ..query.query import trial_number

    place = study_place(Path(study), root)
    return place, trial_number(place, trial)


def effects(study: Study, by: By = None, root: Root = DEFAULT_ROOT, as_json: AsJson = False) -> None:
    """Show which settings mattered, how, and what to try next.

    Prints the importance of each dimension by PED-ANOVA with its noise, its marginal effect, failures by its values,
    how well results at rungs predict the final ones, and the bounds of the space that the best trials are close to.
    """
    place = study_place(study, root)
    from ..analysis import summary as judgement

    summary = judgement.judge(place, by)
    if as_json:
        print_json(summary.to_plain())
    else:
        print_text(judgement.text(summary))
