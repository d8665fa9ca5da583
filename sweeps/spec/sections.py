"""The sections of a study file that do not depend on the problem, as pydantic models.

Rules and descriptions of keys are written here once, for the check, the JSON schema and the documentation.
"""

from __future__ import annotations

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


def _as_mapping(pruner: Any) -> Any:
    """Return the mapping that the bare name of a pruner stands for."""
    return {"kind": pruner} if isinstance(pruner, str) else pruner


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
