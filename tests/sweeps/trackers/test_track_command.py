"""The command `track`, and trackers whose library is missing."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from sweeps.study.loading import load_spec

from ..invoking import errors_of, invoke, made_study
from ..object_store import root as root
from ..object_store import s3 as s3
from ..object_store import store as store
from ..small import prepare, train_all, write_study
from ..spec.study_files import ELSEWHERE, MINIMAL, mistakes
from .reading import of_tensorboard


def test_a_study_is_sent_afterwards_and_only_once(tmp_path: Path) -> None:
    made_study(tmp_path)
    sent = invoke("track", "first", "--root", tmp_path, "--to", "tensorboard", "--folder", tmp_path / "logs")
    assert sent.exit_code == 0, sent.output
    assert sent.stdout == f"tensorboard: 3 runs sent to {tmp_path}/logs\n"
    assert sorted(of_tensorboard(tmp_path / "logs")) == ["first/0", "first/1", "first/2"]
    words = ("track", tmp_path / "first", "--to", "tensorboard", "--folder", tmp_path / "logs", "--json")
    assert json.loads(invoke(*words).stdout) == [
        {"tracker": "tensorboard", "place": f"{tmp_path}/logs", "sent": 0, "before": 3}
    ]


def test_the_trackers_of_the_study_file_are_the_default(tmp_path: Path) -> None:
    study = made_study(tmp_path, lines="track: {tensorboard: {}}\n")
    assert invoke("track", study).stdout == f"tensorboard: 3 runs sent to {study}/tensorboard\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "its study file names no tracker. Name one: --to tensorboard, mlflow or wandb"),
        (("--to", "mlflow", "--uri", "runs"), "track.mlflow.uri: must be a tracking URI"),
        (("--to", "tensorboard", "--folder", "/proc/none"), "tensorboard: FileNotFoundError: "),
    ],
)
def test_a_mistake_is_one_message(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    assert message in errors_of(invoke("track", made_study(tmp_path), *words))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--to", "tensorboard", "--project", "p"), "--project is not for tensorboard, whose options are --folder"),
        (("--project", "p"), "--project needs --to"),
    ],
)
def test_an_option_of_another_tracker_is_refused(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    result = invoke("track", made_study(tmp_path), *words)
    assert result.exit_code == 2 and message in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_library_is_said_before_anything_is_done(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, find = made_study(tmp_path), importlib.util.find_spec
    library = {"tensorboard": "tensorboardX"}.get(name, name)

    def found(module: str, *more: Any) -> Any:
        return None if module == library else find(module, *more)

    monkeypatch.setattr(importlib.util, "find_spec", found)
    message = f"track.{name}: needs the package {library}, which is not installed. pip install 'pinnsweep[{name}]' "
    assert mistakes(f"{MINIMAL}track: {{{name}: {{}}}}\n", base=ELSEWHERE)[0].startswith(message)
    assert message in errors_of(invoke("track", study, "--to", name))
    assert message in errors_of(invoke("run", study, "--set", f"track.{name}={{}}"))
    assert not (study / "tracked").exists()


@pytest.mark.slow
def test_a_study_in_an_object_store_is_read_there(root: str, tmp_path: Path) -> None:
    spec = load_spec(write_study(tmp_path, trials=2, epochs=4, iterations=2), [f"state={tmp_path / 'state'}"])
    home, _ = prepare(Path(root), spec)
    train_all(home, spec=spec).close()
    for file in home.glob("*/*.parquet"):  # the home of another machine has none
        file.unlink()
    sent = invoke("track", f"{root}/small", "--to", "tensorboard")
    assert sent.stdout == f"tensorboard: 2 runs sent to {home}/tensorboard\n", sent.output
    assert sorted(of_tensorboard(home / "tensorboard")) == ["small/0", "small/1"]
