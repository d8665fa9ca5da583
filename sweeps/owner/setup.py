"""The setup of a trial: its configuration and pack key, worked out once and kept on the trial until it is finished."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pinncore
from pinncore.member import is_padded

from ..spec.study_spec import StudySpec, build_settings
from ..study.trials import Trial, TrialSetup
from .packing import traits_of


def set_up(spec: StudySpec, params: Mapping[str, Any]) -> TrialSetup:
    """Return the setup of a configuration; one that cannot be trained has a `failure`."""
    config = spec.config(params)
    try:
        return TrialSetup(config, traits_of(pinncore.Member(*build_settings(config))))
    except pinncore.PinnError as problem:
        return TrialSetup(config, failure=str(problem))


def setup_of(spec: StudySpec, trial: Trial) -> TrialSetup:
    """Return the setup of a trial."""
    if trial.setup is None:
        trial.setup = set_up(spec, trial.params)
    return trial.setup


def depends_on_pack(spec: StudySpec, trial: Trial, device: str) -> bool:
    """Return whether the last digits of a trial's results depend on its pack, which then must not change."""
    return is_padded(setup_of(spec, trial).config["train"]["engine"], device)
