"""Where kernels run: launches, graphs of launches and waits, counted in one place.

`HostMachine` runs the kernels' own text on the CPU, block after block, for tests. `CudaMachine` (`nvidia.py`) is a GPU.
"""

from __future__ import annotations

import abc
import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import PinnError
from ..kernels.cache import kernel_folder
from .sources import digest_of, text_of


class Grid(NamedTuple):
    """Threads of a block, as its entry point says, blocks in x and y, and bytes of shared memory of each."""

    threads: int
    x: int
    y: int = 1
    shared: int = 0


Entry = Callable[[Grid, ctypes.Structure], None]


class Launch(NamedTuple):
    """An entry point of a compiled text, with its blocks and arguments."""

    entry: Entry
    grid: Grid
    arguments: Any


class Machine(abc.ABC):
    """A device that runs kernels in the order of their launches.

    `counts`: launches, those recorded in graphs, replays of these, and synchronisations: waits for results.
    """

    shared_per_block: int  # bytes that a block may have
    shared_per_processor: int

    def __init__(self, device: torch.device) -> None:
        self.device, self.counts, self._is_recording = device, Counter[str](), False

    @abc.abstractmethod
    def prepared(self, source: str, name: str, grid: Grid, arguments: Any, *, contracts: bool = True) -> Launch:
        """Return a launch of an entry point of a text, compiled once on a machine.

        Products and sums become one operation where it `contracts`.
        """

    def launch(self, launch: Launch) -> None:
        """Run what is prepared, after everything that was launched before."""
        self.counts["recorded" if self._is_recording else "launches"] += 1
        self._run(launch)

    def _run(self, launch: Launch) -> None:
        launch.entry(launch.grid, launch.arguments)

    def read(self, *tensors: Tensor) -> list[Tensor]:
        """Return tensors on the CPU, after everything that was launched."""
        self.counts["synchronisations"] += 1
        return [tensor.cpu() for tensor in tensors]

    def graph(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return a function that repeats the launches of `work`, which ran once before, and is not run here."""
        self._is_recording = True
        try:
            replay = self._graph(work)
        finally:
            self._is_recording = False

        def counted() -> None:
            self.counts["replays"] += 1
            replay()

        return counted

    @abc.abstractmethod
    def _graph(self, work: Callable[[], None]) -> Callable[[], None]: ...


class HostMachine(Machine):
    """The CPU in the part of a GPU: one block after the other, threads as fibers. Slow; needs g++."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.shared_per_block, self.shared_per_processor = 1 << 20, 1 << 23
        self._noted: list[Launch] = []  # of the graph that is recorded

    def prepared(self, source: str, name: str, grid: Grid, arguments: Any, *, contracts: bool = True) -> Launch:
        library = host_library(source, contracts=contracts)

        def entry(grid: Grid, arguments: ctypes.Structure) -> None:
            library[name](ctypes.byref(arguments), grid.x, grid.y, ctypes.c_size_t(grid.shared))

        return Launch(entry, grid, arguments)

    def _run(self, launch: Launch) -> None:
        if self._is_recording:
            self._noted.append(launch._replace(arguments=type(launch.arguments).from_buffer_copy(launch.arguments)))
        else:
            super()._run(launch)

    def _graph(self, work: Callable[[], None]) -> Callable[[], None]:
        self._noted = noted = list[Launch]()
        work()

        def replay() -> None:
            for launch in noted:
                launch.entry(launch.grid, launch.arguments)

        return replay


@functools.cache
def host_library(source: str, *, contracts: bool) -> Any:
    """Return a text compiled by g++. Raises `PinnError` where that is impossible."""
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    if compiler is None:
        raise PinnError("GPU kernels run on the CPU only where g++ is installed, or another compiler named in CXX")
    options = ["-std=c++17", "-O1", "-march=native", f"-ffp-contract={'fast' if contracts else 'off'}"]
    text = f"{text_of('host.h')}\n{source}"
    library = kernel_folder() / f"host_{digest_of(text, *options)}.so"
    if not library.is_file():
        with tempfile.TemporaryDirectory(dir=kernel_folder()) as folder:
            file, built = Path(folder, "kernel.cpp"), Path(folder, "kernel.so")
            file.write_text(text)
            command = [compiler, *options, "-w", "-shared", "-fPIC", "-o", str(built), str(file)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise PinnError(f"{compiler} cannot compile a GPU kernel for the CPU:\n{done.stderr[:2000]}")
            built.replace(library)
    return ctypes.CDLL(str(library))
