"""GPUs of NVIDIA: kernels compiled by NVRTC on the machine that uses them, launched on torch's stream."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import threading
from collections.abc import Callable
from typing import Any, Final

import torch

from ..errors import PinnError
from ..kernels.cache import kernel_folder
from .machine import Entry, Grid, Launch, Machine
from .sources import digest_of, text_of

PACKAGES: Final = {"cuda.bindings": "cuda-bindings", "nvidia.cuda_nvrtc": "nvidia-cuda-nvrtc"}
LEAST_CAPABILITY: Final = (8, 0)  # the oldest that the kernels are compiled for


def why_not(device: torch.device) -> str | None:
    """Return why kernels do not run on a CUDA device of this process; None where they do."""
    if not torch.cuda.is_available():
        return "PyTorch sees no GPU"
    if not has_package("cuda.bindings"):
        return "the package cuda-bindings is missing: pip install 'pinnsweep[gpu]'"
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        return f"compute capability {'.'.join(map(str, capability))} is below {'.'.join(map(str, LEAST_CAPABILITY))}"
    try:
        _nvrtc()
    except PinnError as problem:
        return str(problem)
    return None


def has_package(module: str) -> bool:
    """Return whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False


@functools.cache
def cuda_machine(device: torch.device) -> CudaMachine:
    """Return the machine of a device. Raises `PinnError` where kernels do not run on it."""
    return CudaMachine(device)


class CudaMachine(Machine):
    """A GPU. Raises `PinnError` where kernels do not run on it."""

    def __init__(self, device: torch.device) -> None:
        if reason := why_not(device):
            raise PinnError(f"the GPU kernel cannot run on {device}: {reason}. Or use engine: torch")
        index = torch.cuda.current_device() if device.index is None else device.index
        super().__init__(torch.device("cuda", index))
        torch.zeros(1, device=self.device)  # makes torch's context, which the driver's calls below use
        driver = _driver()
        attribute = driver.CUdevice_attribute
        self.shared_per_block, self.shared_per_processor = (
            int(_checked(driver.cuDeviceGetAttribute(kind, index)))
            for kind in (
                attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
                attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR,
            )
        )
        self._entries: dict[tuple[str, str, bool], Entry] = {}

    def prepared(self, source: str, name: str, grid: Grid, arguments: Any, *, contracts: bool = True) -> Launch:
        key = (source, name, contracts)
        if key not in self._entries:
            cubin = compiled(source, torch.cuda.get_device_capability(self.device), contracts=contracts)
            self._entries[key] = self._entry(cubin, name)
        return Launch(self._entries[key], grid, arguments)

    def _entry(self, cubin: bytes, name: str) -> Entry:
        """Return an entry point of loaded machine code; loading is not possible while a graph is recorded."""
        driver, device = _driver(), self.device
        kinds = driver.CUfunction_attribute
        with torch.cuda.device(device):
            function = _checked(driver.cuModuleGetFunction(_checked(driver.cuModuleLoadData(cubin)), name.encode()))
            kind = kinds.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            own = _checked(driver.cuFuncGetAttribute(kinds.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, function))
            _checked(driver.cuFuncSetAttribute(function, kind, self.shared_per_block - own))

        def entry(grid: Grid, arguments: ctypes.Structure) -> None:
            pointers = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
            with torch.cuda.device(device):
                stream = torch.cuda.current_stream(device).cuda_stream
                _checked(
                    driver.cuLaunchKernel(
                        *(function, grid.x, grid.y, 1, grid.threads, 1, 1, grid.shared, stream),
                        *(ctypes.addressof(pointers), 0),
                    )
                )

        return entry

    def _graph(self, work: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            work()

        def replay() -> None:
            graph.replay()

        return replay


def compiled(source: str, capability: tuple[int, int], *, contracts: bool) -> bytes:
    """Return the machine code of a text for GPUs of a compute capability; it is kept beside the CPU's kernels.

    Raises `PinnError` where NVRTC is missing or refuses the text.
    """
    text = f"{text_of('device.h')}\n{source}"
    options = [
        f"--gpu-architecture=sm_{capability[0]}{capability[1]}",
        "--std=c++17",
        f"--fmad={str(contracts).lower()}",
    ]
    nvrtc = _nvrtc()
    version = ".".join(map(str, _checked(nvrtc.nvrtcVersion(), several=True)))
    file = kernel_folder() / f"cuda_{digest_of(text, version, *options)}.cubin"
    if file.is_file():
        return file.read_bytes()
    program = _checked(nvrtc.nvrtcCreateProgram(text.encode(), b"kernel.cu", 0, [], []))
    try:
        status, *_ = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
        if status.value:
            log = b" " * _checked(nvrtc.nvrtcGetProgramLogSize(program))
            nvrtc.nvrtcGetProgramLog(program, log)
            raise PinnError(f"NVRTC {version} cannot compile a kernel:\n{log.decode().strip()[:2000]}")
        cubin = b" " * _checked(nvrtc.nvrtcGetCUBINSize(program))
        _checked(nvrtc.nvrtcGetCUBIN(program, cubin))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    beside = file.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")
    beside.write_bytes(cubin)
    beside.replace(file)
    return cubin


@functools.cache
def _driver() -> Any:
    from cuda.bindings import driver  # not a dependency of machines without a GPU

    return driver


@functools.cache
def _nvrtc() -> Any:
    """Return the module of NVRTC. Raises `PinnError` where its library is missing."""
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError) as problem:
        raise PinnError(
            f"NVRTC, which compiles kernels, is missing ({problem}): pip install 'pinnsweep[gpu]'"
        ) from problem
    return nvrtc


def _checked(result: Any, *, several: bool = False) -> Any:
    """Return what a call gives besides its status. Raises `PinnError` where the status is an error."""
    status, *values = result
    if status.value:
        raise PinnError(f"CUDA reports {status.name}")
    return values if several else values[0] if values else None
