"""One thread, and the data every file here trains on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pinncore import FieldData, load_data, save_data

from .helpers import every

torch.set_num_threads(1)  # the networks are small: more threads than free cores slow them down a hundredfold


@pytest.fixture(scope="session")
def strb100() -> FieldData:
    """The bundled data: 6400 Gauss points."""
    return load_data("strb100")


@pytest.fixture(scope="session")
def coarse(strb100: FieldData) -> FieldData:
    """Every 41st Gauss point and every fifth boundary node of StrB100: for what does not depend on the points."""
    return every(strb100, gauss=41, nodes=5)


@pytest.fixture(scope="session")
def coarse_npz(coarse: FieldData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`coarse` as a file."""
    path = tmp_path_factory.mktemp("coarse") / "coarse.npz"
    save_data(coarse, path)
    return path
