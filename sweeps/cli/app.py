"""The command `pinnsweep`: it reads arguments, calls the modules that do the work, and prints text or JSON.

Exit codes: 0 done, 1 finished with failed trials, 2 usage or study file wrong, 130 interrupted, 141 the reader of the
output is gone. Heavy libraries are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

from typing import Annotated, Final

import typer

from . import analysis, dashboard, data, jobs, parity, problem, query, report, run, studies, trials
from .errors import Commands
from .options import AsJson, Cpus, Set, Spec, print_json, warn

app = typer.Typer(
    name="pinnsweep",
    cls=Commands,
    help="Sweeps of physics-informed neural networks: trained in packs, resumable, with results as plain tables.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data", help="Build reference data, and check data tables.")


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
    typer.echo(f"{spec}: valid. Study {study.study}, {count} trials by {study.search.sampler}, sweeping {swept}.")


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
    typer.echo(planning.render(estimate))


def schema() -> None:
    """Print the JSON schema of study files, for editors."""
    from ..study.problems import study_schema

    print_json(study_schema())


data_app.command()(data.check)
data_app.command()(data.build)

COMMANDS: Final = (  # in the order of --help
    *(run.run, run.stop, run.extend, run.retry, problem.init, problem.problem, validate, plan, schema),
    *(studies.status, studies.list_studies, studies.delete, studies.compact, studies.gc),
    *(query.query, query.export, analysis.top, analysis.compare, analysis.effects, report.report),
    *(dashboard.dashboard, trials.show, trials.retrain, trials.predict, trials.weights, trials.error_budget),
    parity.parity,
    *(jobs.submit, jobs.jobs, jobs.logs, jobs.cancel, jobs.doctor),
)
for command in COMMANDS:
    app.command(command.__name__.removesuffix("_studies").replace("_", "-"))(command)
