"""The sections of a study file that do not depend on the problem, as pydantic models.

Rules and descriptions of keys are written here once, for the check, the JSON schema and the documentation.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from .samplers import PRUNERS, SAMPLERS, PrunerTraits, SamplerTraits, listing, names, summaries

STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

Count = Annotated[int, Ge(1), Le(1_000_000)]

if TYPE_CHECKING:
    SamplerName = str
    PrunerKind = str
else:
    SamplerName, PrunerKind = Literal[tuple(SAMPLERS)], Literal[tuple(PRUNERS)]


def _one_or_list(value: Any) -> str:
    """Return the tag of the branch of a union, one value or a list of values, that a value belongs to."""
    return "list" if isinstance(value, (list, tuple)) else "one"


def _reading(key: str) -> str:
    return names(PRUNERS, lambda kind: key in kind.keys)


NUMBERED_GPU: Final = r"^cuda:(0|[1-9][0-9]{0,2})$"
LISTED: Final = Discriminator(_one_or_list)


ADDRESS: Final = r"https?://[^\s/]+\S*"  # of a webhook
FROM_ENVIRONMENT: Final = "env:"  # before the name of the variable that holds a webhook's address
LIBRARIES: Final = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}  # of trackers, by their names


def _as_mapping(pruner: Any) -> Any:
    """Return the mapping that the bare name of a pruner stands for."""
    return {"kind": pruner} if isinstance(pruner, str) else pruner


def _without_default(schema: dict[str, Any]) -> None:
    """Remove the default from the JSON schema of a key that may be left out but must not be null."""
    schema.pop("default", None)


def _tracker(sentence: str) -> Any:
    return Field(default=None, description=f"{sentence}; left out: not used.", json_schema_extra=_without_default)


class PrunerSettings(BaseModel):
    """The rule that ends hopeless trials early."""

    model_config = STRICT

    kind: PrunerKind = Field(
        default="none",
        description=f"{summaries(PRUNERS, lambda kind: True, '; ')}.",
    )
    metric: Literal["rel_l2", "loss"] | None = Field(
        default=None,
        description="The column of the table curves that decides; null: the objective, or each of several objectives.",
    )
    reduction: Annotated[int, Ge(2), Le(16)] = Field(
        default=3, description=f"{_reading('reduction')}: at a rung, one trial in this many goes on."
    )
    rungs: Annotated[int, Ge(1), Le(20)] = Field(
        default=3,
        description=f"Number of rungs. {_reading('reduction')}: from reduction^-rungs to reduction^-1 of a trial's "
        f"planned steps; {names(PRUNERS, lambda kind: kind.compares_at_rungs and 'reduction' not in kind.keys)}: "
        "evenly spaced.",
    )
    startup_trials: Annotated[int, Ge(0)] = Field(
        default=4,
        description=f"{_reading('startup_trials')}: no trial is ended at a rung before this many others have reached "
        "it.",
    )
    brackets: Annotated[int, Ge(1), Le(5)] = Field(
        default=2, description=f"{_reading('brackets')}: number of brackets."
    )
    patience: Annotated[float, Gt(0), Le(1)] = Field(
        default=0.2,
        description=f"{_reading('patience')}: share of the planned steps without improvement after which a training "
        "ends.",
    )
    min_improvement: Annotated[float, Ge(0)] = Field(
        default=0.01,
        description=f"{_reading('min_improvement')}: smallest relative decrease of the metric that counts as an "
        "improvement.",
    )

    @property
    def traits(self) -> PrunerTraits:
        """Return what pruners of this kind are."""
        return PRUNERS[self.kind]


class SearchSettings(BaseModel):
    """How the space is searched, and for how long."""

    model_config = STRICT

    sampler: SamplerName = Field(
        default="random",
        description=f"How trials are drawn: {summaries(SAMPLERS, lambda sampler: not sampler.learns, '; ')}; or by "
        f"learning from the finished trials: {summaries(SAMPLERS, lambda sampler: sampler.learns, ', ')}.",
    )
    trials: Count | None = Field(
        default=None,
        description="Number of trials; without it, the samplers "
        f"{names(SAMPLERS, lambda sampler: sampler.is_finite)} run the whole "
        f"{names(SAMPLERS, lambda sampler: sampler.is_finite, 'or')}.",
    )
    objective: str | tuple[str, ...] = Field(  # in a file, one or several metrics of the problem or its loss
        default="rel_l2",
        description="What is minimised: rel_l2 is the relative L2 error to the reference field. A list of two or more "
        "asks for the best compromises (Pareto front).",
    )
    seed: Annotated[int, Ge(0)] = Field(default=0, description="Seed of the study; equal seeds draw equal trials.")
    replicates: Annotated[int, Ge(1), Le(1000)] = Field(
        default=1, description="Number of trainings of each configuration, each with its own seed, in one pack."
    )
    quantile: Annotated[float, Ge(0), Le(1)] = Field(
        default=0.5, description="Quantile over the replicates that is the objective of a trial; 0.5 is the median."
    )
    deterministic: bool = Field(
        default=False,
        description="Whether samplers that learn propose a whole generation before any of it trains, so that the "
        "trials do not depend on which finishes first.",
    )
    generation: Count = Field(
        default=8,
        description="Number of trials proposed together where deterministic is true; also the population size of "
        f"{names(SAMPLERS, lambda sampler: sampler.has_population)}.",
    )
    list_: (
        Annotated[Annotated[str, Tag("one")] | Annotated[list[dict[str, Any]], MinLen(1), Tag("list")], LISTED] | None
    ) = Field(
        default=None,
        alias="list",
        description="Sampler list: the configurations, as a list of mappings from field to value or as the path of a "
        "table, such as CSV, whose header names fields; a field that is left out has its value under train or problem.",
    )
    constraints: list[str] = Field(
        default_factory=list,
        description="Rules that every trial must obey, such as width * depth <= 128, over fields of train and problem.",
    )
    warm_start: list[str] = Field(
        default_factory=list,
        description="Folders of finished studies from whose trials the samplers "
        f"{names(SAMPLERS, lambda sampler: sampler.learns_from_others)} learn first.",
    )
    reuse: list[str] = Field(
        default_factory=list,
        description="Folders of studies whose complete trials are reused where the configuration is the same.",
    )
    branch_of: str | None = Field(
        default=None,
        description="Folder of a study whose complete trials become trials of this one where all their settings fit.",
    )
    pruner: Annotated[
        PrunerSettings, BeforeValidator(_as_mapping, json_schema_input_type=PrunerKind | PrunerSettings)
    ] = Field(
        default_factory=PrunerSettings,
        description=f"What ends hopeless trials early: {listing(PRUNERS, 'or')}, or a mapping with kind and the keys "
        "below.",
    )

    @property
    def traits(self) -> SamplerTraits:
        """Return what the sampler is."""
        return SAMPLERS[self.sampler]


class ResourceSettings(BaseModel):
    """Where a pack trains and how many trials share one."""

    model_config = STRICT

    device: Literal["auto", "cpu", "cuda"] | Annotated[str, Field(pattern=NUMBERED_GPU)] = Field(
        default="auto",
        description="Where packs train; auto takes GPUs if there are any, of which every pack gets its own. cuda:N is "
        "GPU N, counted from 0, of those that CUDA_VISIBLE_DEVICES shows on this machine; not for runs that join a "
        "cluster, where Ray gives every pack its GPU.",
    )
    pack: Literal["auto"] | Count = Field(
        default="auto", description="Largest number of trials trained together in one process, or auto."
    )
    cpus_per_pack: Count = Field(default=1, description="CPU cores each pack gets.")
    gpus_per_pack: Annotated[float, Ge(0)] | None = Field(
        default=None, description="GPUs each pack gets, below 1 for a share; null: one on a GPU, none on a CPU."
    )
    max_packs: Count | None = Field(
        default=None,
        description="Largest number of packs that train at once, and so how far a cluster is asked to grow; null: as "
        "many as the waiting trials fill.",
    )
    wait_min: Annotated[float, Ge(0)] = Field(
        default=30.0,
        description="Minutes to wait for a node that can hold a pack, on a cluster that has none, before the run ends; "
        "run the study again to resume.",
    )
    priority: Annotated[int, Ge(1), Le(100)] = Field(
        default=1, description="Weight among the studies that share a cluster: 2 gets twice as many packs as 1."
    )


class BudgetSettings(BaseModel):
    """Limits that end a study before its last trial."""

    model_config = STRICT

    hours: Annotated[float, Gt(0)] | None = Field(
        default=None, description="Hours, summed over all starts, after which no new trial starts; null sets no limit."
    )
    device_hours: Annotated[float, Gt(0)] | None = Field(
        default=None, description="Hours of devices in use, summed over devices, after which no new trial starts."
    )
    evaluations: Annotated[int, Ge(1)] | None = Field(
        default=None, description="Evaluations of the loss, summed over all trials, after which no new trial starts."
    )
    target: float | None = Field(
        default=None,
        description="No new trial starts once an objective is at most this; for a single objective.",
    )
    max_failures: Annotated[int, Ge(0)] | None = Field(
        default=None,
        description="Number of failed trials beyond which no new trial starts; null sets no limit.",
    )


class ResultSettings(BaseModel):
    """What is kept of each trial in addition to its row and its curves."""

    model_config = STRICT

    fields: Literal["all", "none"] = Field(default="all", description="Trials whose predicted field is kept.")
    weights: Literal["all", "none"] = Field(default="all", description="Trials whose weights are kept.")


class TensorBoardSettings(BaseModel):
    """Runs as event files for TensorBoard."""

    model_config = STRICT

    folder: str | None = Field(
        default=None,
        description="Folder of the event files, which several studies may share; null: tensorboard in the study's "
        "folder.",
    )


class MLflowSettings(BaseModel):
    """Runs in an MLflow server or store."""

    model_config = STRICT

    uri: Annotated[str, Field(pattern=r"^(databricks|[A-Za-z][A-Za-z0-9+.-]*:\S+)$")] | None = Field(
        default=None,
        description="Tracking URI, without a password; null: that of MLFLOW_TRACKING_URI, else the file mlflow.db "
        "beside the study's folder.",
    )
    experiment: Annotated[str, MinLen(1)] | None = Field(
        default=None, description="Experiment that holds the runs; null: the name of the study."
    )


class WandbSettings(BaseModel):
    """Runs in Weights & Biases."""

    model_config = STRICT

    project: Annotated[str, MinLen(1)] = Field(default="pinnsweep", description="Project that holds the runs.")
    entity: Annotated[str, MinLen(1)] | None = Field(
        default=None, description="User or team that owns the project; null: your default at W&B."
    )
    mode: Literal["online", "offline"] | None = Field(
        default=None,
        description="online, or offline: only into the study's folder, from where wandb sync sends it later; null: as "
        "WANDB_MODE says, else online.",
    )


class TrackSettings(BaseModel):
    """Trackers that finished trials are sent to, each with its own settings."""

    model_config = STRICT

    tensorboard: TensorBoardSettings = _tracker("Writes event files for TensorBoard")
    mlflow: MLflowSettings = _tracker("Sends every finished trial to MLflow")
    wandb: WandbSettings = _tracker("Sends every finished trial to Weights & Biases")

    @property
    def chosen(self) -> dict[str, TensorBoardSettings | MLflowSettings | WandbSettings]:
        """Return the settings of the trackers that are used, by their names."""
        return {name: settings for name in LIBRARIES if (settings := getattr(self, name)) is not None}


class NotifySettings(BaseModel):
    """A program and a webhook that are told what happens to a run."""

    model_config = STRICT

    command: (
        Annotated[
            Annotated[str, MinLen(1), Tag("one")] | Annotated[list[str], MinLen(1), Tag("list")],
            LISTED,
        ]
        | None
    ) = Field(
        default=None,
        description="Program to start with the event as JSON on its standard input and in PINNSWEEP_* variables: a "
        "list of words, or text that is split into words as a shell does; no shell runs it.",
    )
    webhook: Annotated[str, Field(pattern=rf"^({ADDRESS}|env:[A-Za-z_][A-Za-z0-9_]*)$")] | None = Field(
        default=None,
        description="Address that gets the event as JSON, such as an incoming webhook of Slack or Mattermost; env:NAME "
        "takes it from a variable of the environment and so keeps it out of the study.",
    )
    on: Annotated[tuple[Literal["end", "failure", "target"], ...], MinLen(1)] = Field(
        default=("end", "failure", "target"),
        description="Events: end (of a run, whatever the reason), failure (the first failed trial of a run), target "
        "(budget.target is reached).",
    )

    @property
    def is_used(self) -> bool:
        """Return whether anybody is told."""
        return self.command is not None or self.webhook is not None

    @property
    def words(self) -> tuple[str, ...]:
        """Return the words of the command, none without one. Raises `ValueError` for an open quote."""
        return tuple(shlex.split(self.command) if isinstance(self.command, str) else self.command or ())
