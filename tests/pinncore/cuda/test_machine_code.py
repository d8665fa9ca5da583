"""The machine code of the loss kernel: what the compiler makes of it, for GPUs that need not be here."""

from __future__ import annotations

import re

import pytest

from benchmarks.machine_code import ACTIVATIONS, KERNELS, PROCESSOR_SHARED, machine_code, nvrtc_version, tool
from benchmarks.options import BenchError, Shape
from pinncore.cuda.nvidia import has_package
from tests import ROOT

PAGE = ROOT / "docs" / "gpu.md"
BOUNDS = {Shape(2, 16): 8, Shape(8, 8): 6, Shape(3, 20): 6}  # least warps of a processor, float32 and tanh


def obstacle() -> str | None:
    """Why nothing can be compiled and read here."""
    if not has_package("cuda.bindings"):
        return "cuda-bindings is not installed"
    try:
        nvrtc_version()
        tool("cuobjdump")
        tool("nvdisasm")
    except (BenchError, RuntimeError) as problem:
        return str(problem)
    return None


pytestmark = pytest.mark.skipif(obstacle() is not None, reason=str(obstacle()))


@pytest.mark.parametrize("capability", PROCESSOR_SHARED, ids=lambda capability: "sm_{}{}".format(*capability))
@pytest.mark.parametrize("shape", BOUNDS, ids=str)
def test_no_spills_and_enough_warps(capability: tuple[int, int], shape: Shape) -> None:
    found = machine_code(capability, shape, "float32", "tanh")
    assert (found.stack_bytes, found.local_accesses) == (0, 0)
    assert found.warps >= BOUNDS[shape]
    assert found.instructions > 1000


@pytest.mark.parametrize("activation", [ACTIVATIONS[0], pytest.param(ACTIVATIONS[1], marks=pytest.mark.slow)])
def test_the_page_says_what_is_compiled(activation: str) -> None:
    text = PAGE.read_text()
    (version,) = re.findall(r"Compiled by NVRTC (\S+)\.\n", text)
    if version != nvrtc_version():
        pytest.skip(f"the table is of NVRTC {version}, here is {nvrtc_version()}")
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in text.splitlines()]
    stated = [row for row in rows if row[0].startswith("sm_") and row[3] == activation]
    compiled = [
        machine_code(capability, shape, dtype, activation).cells
        for capability in PROCESSOR_SHARED
        for shape, dtype in KERNELS
    ]
    assert stated == compiled, "write the table anew: python -m benchmarks kernels"
