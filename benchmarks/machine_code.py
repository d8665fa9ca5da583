"""The machine code of the GPU kernel: registers, memory, spills, size; compiled for GPUs that need not be here."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from pinncore.cuda.limits import FEW_BLOCKS, WARPS
from pinncore.cuda.nvidia import compiled
from pinncore.cuda.sources import LossKernel, equation_of
from pinncore.errors import PinnError
from pinncore.problems.nonlocal_strain import NonlocalStrain

from .options import BenchError, Shape

KIB: Final = 1024
RESERVED: Final = 1 * KIB  # of every block, which the system keeps for itself
REGISTERS: Final = 65536  # of a processor
PROCESSOR_SHARED: Final = {(8, 0): 164 * KIB, (9, 0): 228 * KIB, (10, 0): 228 * KIB}  # by compute capability
KERNELS: Final = (
    (Shape(8, 8), "float32"),
    (Shape(2, 16), "float32"),
    (Shape(3, 20), "float32"),
    (Shape(2, 24), "float32"),
    (Shape(8, 8), "float64"),
)
ACTIVATIONS: Final = ("tanh", "sin")
INSTRUCTION: Final = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+\s+)?(\w+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class MachineCode:
    """A compiled loss kernel; `block_bytes` is the shared memory of a block with what the system reserves.

    `local_accesses` are the instructions that load or store local memory, which spills are kept in.
    """

    HEAD: ClassVar = (
        "GPUs", "shape", "dtype", "activation", "tape in memory", "registers", "KiB of a block", "bytes of stack",
        "local loads and stores", "warps a processor", "instructions",
    )  # fmt: skip

    capability: tuple[int, int]
    shape: str
    dtype: str
    activation: str
    tape: str
    registers: int
    block_bytes: int
    stack_bytes: int
    local_accesses: int
    instructions: int

    @property
    def warps(self) -> int:
        """Return the warps that a processor holds at once: whole blocks, by registers and by shared memory."""
        by_registers = REGISTERS // (32 * -(-self.registers // 8) * 8) // 4 * 4  # a quarter of a processor has its own
        by_memory = PROCESSOR_SHARED[self.capability] // self.block_bytes * WARPS
        return min(by_registers // WARPS * WARPS, by_memory)

    @property
    def cells(self) -> tuple[str, ...]:
        """Return the row of the table."""
        gpus = "sm_{}{}".format(*self.capability)
        numbers = (self.registers, f"{self.block_bytes / KIB:.1f}", self.stack_bytes, self.local_accesses, self.warps)
        return (gpus, self.shape, self.dtype, self.activation, self.tape, *map(str, (*numbers, self.instructions)))


@dataclass(frozen=True)
class CodeTable:
    """The rows, the version of the compiler, and why there are none where there are none."""

    rows: tuple[MachineCode, ...]
    version: str
    obstacle: str = ""


def compile_table(say: Callable[[str], None]) -> CodeTable:
    """Return the machine code of all `KERNELS`."""
    try:
        return CodeTable(tuple(_every(say)), nvrtc_version())
    except (BenchError, PinnError) as problem:
        return CodeTable((), "", str(problem))


def _every(say: Callable[[str], None]) -> Iterator[MachineCode]:
    for capability, (shape, dtype), activation in itertools.product(PROCESSOR_SHARED, KERNELS, ACTIVATIONS):
        say("kernels: sm_{}{}, {} {} {}".format(*capability, shape, dtype, activation))
        yield machine_code(capability, shape, dtype, activation)


def machine_code(capability: tuple[int, int], shape: Shape, dtype: str, activation: str) -> MachineCode:
    """Compile the loss kernel of the strain problem's residual and return what its machine code says.

    Raises `PinnError` where NVRTC is missing, `BenchError` where the tools that read machine code are.
    """
    processor = PROCESSOR_SHARED[capability]
    kernel = LossKernel(equation_of(NonlocalStrain().groups[0], 2), activation, dtype, -(-shape.width // 4) * 4)
    kernel = kernel.with_tape(shape.depth, processor - RESERVED, processor // FEW_BLOCKS)
    usage, code = inspect(compiled(kernel.source, capability, contracts=True))
    instructions = INSTRUCTION.findall(code)
    return MachineCode(
        capability=capability,
        shape=str(shape),
        dtype=dtype,
        activation=activation,
        tape="device" if kernel.device_tape else "shared",
        registers=usage["REG"],
        block_bytes=kernel.shared_bytes(shape.depth) + RESERVED,
        stack_bytes=usage["STACK"],
        local_accesses=sum(name in ("LDL", "STL") for name in instructions),
        instructions=len(instructions),
    )


def inspect(cubin: bytes) -> tuple[dict[str, int], str]:
    """Return the resources of machine code by name, and its listing. Raises `BenchError` where a tool is missing."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.cubin")
        file.write_bytes(cubin)
        usage, listing = (
            subprocess.run([tool(name), option, str(file)], capture_output=True, text=True, check=True).stdout
            for name, option in (("cuobjdump", "-res-usage"), ("nvdisasm", "-c"))
        )
    _, _, numbers = usage.partition("Function loss:")
    return {name: int(number) for name, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", numbers)}, listing


def tool(name: str) -> str:
    """Return the path of a tool of CUDA, on PATH or from its package. Raises `BenchError` where it is missing."""
    found = importlib.util.find_spec("nvidia")
    packages = found.submodule_search_locations if found is not None else None
    places = [place for root in packages or () for place in Path(root).glob(f"*/bin/{name}")]
    path = shutil.which(name) or (str(places[0]) if places else None)
    if path is None:
        raise BenchError(f"{name} is missing: pip install nvidia-cuda-{name}, or put CUDA's bin folder on PATH")
    return path


def nvrtc_version() -> str:
    """Return the version of NVRTC."""
    from cuda.bindings import nvrtc  # noqa: PLC0415, an optional dependency

    return ".".join(map(str, nvrtc.nvrtcVersion()[1:]))
