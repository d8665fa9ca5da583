"""The command `pinnsweep`: it reads arguments, calls the modules that do the work, and prints text or JSON.

Exit codes: 0 done, 1 finished with failed trials, 2 usage or study file wrong, 130 interrupted, 141 the reader of the
output is gone. Heavy libraries are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Final

import typer

from . import analysis, dashboard, data, jobs, parity, problem, query, report, run, studies, track, trials
from .errors import Commands
from .examples import examples_of
from .help_text import HelpfulCommand, HelpfulGroup
from .options import AsJson, Cpus, Set, Spec, print_json, warn
from .printing import print_text

app = typer.Typer(
    name="pinnsweep",
    cls=Commands,
    help="Sweeps of physics-informed neural networks: trained in packs, resumable, with results as plain tables.",
    epilog=examples_of(""),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        typer.echo(f"pinnsweep {importlib.metadata.version('pinnsweep')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def validate(spec: Spec, overrides: Set = None, as_json: AsJson = False) -> None:
    """Check a study file and report every mistake at once."""
    from ..study.input_checks import warnings_of
    from ..study.loading import load_spec

    study = load_spec(spec, overrides or ())
    warnings = warnings_of(study)
    if as_json:
        print_json({"study": study.study, "warnings": warnings, "spec_hash": study.sha256()})
        return
    warn(warnings)
    count = study.search.trials or "all"
    swept = ", ".join(study.space) or "nothing"
    print_text(f"{spec}: valid. Study {study.study}, {count} trials by {study.search.sampler}, sweeping {swept}.")


def plan(
    spec: Spec,
    overrides: Set = None,
    cpus: Cpus = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate/--no-calibrate", help="Time a few evaluations on this machine first.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Estimate memory and time; trains and writes nothing."""
    from dataclasses import asdict

    from ..machine import available_cpus
    from ..runner import plan as planning
    from ..study.loading import load_spec

    study = load_spec(spec, overrides or ())
    estimate = planning.plan(study, cpus=cpus or available_cpus(), calibrate=calibrate)
    if as_json:
        print_json(asdict(estimate))
        return
    warn(estimate.warnings)
    print_text(planning.render(estimate))


def schema() -> None:
    """Print the JSON schema of study files, for editors."""
    from ..study.problems import study_schema

    print_json(study_schema())


def _name(command: Callable[..., None]) -> str:
    """Return the word that calls a command: the name of its function."""
    return command.__name__.removesuffix("_studies").replace("_", "-")


COMMANDS: Final[Mapping[str, tuple[Callable[..., None], ...]]] = MappingProxyType(  # by purpose, in the order of --help
    {
        "Write a study": (problem.init, problem.problem, validate, plan, schema),
        "Run it": (run.run, run.stop, run.extend, run.retry),
        "Look at results": (
            *(studies.status, studies.list_studies, query.query, query.export),
            *(report.report, dashboard.dashboard, track.track),
        ),
        "Judge them": (analysis.top, analysis.effects, analysis.compare, parity.parity),
        "One trial": (trials.show, trials.error_budget, trials.retrain, trials.predict, trials.weights),
        "Other machines": (jobs.submit, jobs.jobs, jobs.logs, jobs.cancel, jobs.doctor),
        "Files": (studies.delete, studies.compact, studies.gc),
    }
)
for purpose, commands in COMMANDS.items():
    for command in commands:
        name = _name(command)
        app.command(name, cls=HelpfulCommand, epilog=examples_of(name), rich_help_panel=purpose)(command)

data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, cls=HelpfulGroup)
for command in (data.check, data.build):
    name = _name(command)
    data_app.command(name, cls=HelpfulCommand, epilog=examples_of(f"data {name}"), rich_help_panel="Commands")(command)
app.add_typer(data_app, name="data", help="Check data tables, and compute reference data.", rich_help_panel="Files")
