"""The run of the benchmark: the selected parts in order, and the comparisons."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from .bars import compare
from .interleaved import Say
from .machine import describe_machine, granted_cores
from .machine_code import CodeTable, compile_table
from .options import BenchError, Options
from .records import Comparison, Timing

SCHEMA_VERSION: Final = 1


@dataclass(frozen=True)
class Report:
    """All results of a run of the benchmark."""

    options: Options
    machine: dict[str, Any]
    timings: tuple[Timing, ...]
    comparisons: tuple[Comparison, ...]
    machine_code: CodeTable | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the report as values of JSON; numbers that are not finite become null."""
        options = asdict(self.options)
        options["shapes"] = None if self.options.shapes is None else [str(shape) for shape in self.options.shapes]
        record = {
            "schema": SCHEMA_VERSION,
            "options": options,
            "machine": self.machine,
            "timings": [timing.as_json() for timing in self.timings],
            "comparisons": [comparison.as_json() for comparison in self.comparisons],
            "machine_code": None if self.machine_code is None else asdict(self.machine_code),
        }
        return {name: _finite(value) for name, value in record.items()}


def run_benchmark(options: Options, *, say: Say, keep: Callable[[Report], None] = lambda report: None) -> Report:
    """Run the parts in order; `say` gets progress lines, `keep` the report after each part.

    Raises `BenchError` for an unknown engine and for more threads than granted cores.
    """
    from pinncore.engines import ENGINES

    if options.engine not in ("auto", *ENGINES):
        raise BenchError(f"--engine: must be auto or one of {', '.join(ENGINES)}, got {options.engine!r}")
    granted = len(granted_cores())
    threads = options.threads or ((1,) if options.quick or granted == 1 else (1, 2))
    if max(threads) > granted:
        raise BenchError(f"--threads: must be at most {granted}, the cores this process may use, got {max(threads)}")
    machine = describe_machine()
    report = Report(options, machine, (), ())
    for part in options.parts:
        if part == "kernels":
            report = replace(report, machine_code=compile_table(say))
        else:
            chosen = (1,) if part in ("e", "f") and options.threads is None else threads
            timings = (*report.timings, *_measure(part)(options, threads=chosen, say=say))
            report = replace(report, timings=timings, comparisons=tuple(compare(timings)))
        keep(report)
    return report


def _measure(part: str) -> Callable[..., list[Timing]]:
    from .parts.equations import measure_equations
    from .parts.evaluation import measure_evaluation
    from .parts.floor import measure_floor
    from .parts.formulations import measure_formulations
    from .parts.gpu import measure_gpu
    from .parts.lbfgs import measure_lbfgs
    from .parts.sweep import measure_sweep
    from .parts.trial import measure_trial

    return {
        "a": measure_evaluation,
        "b": measure_lbfgs,
        "c": measure_trial,
        "d": measure_sweep,
        "e": measure_equations,
        "f": measure_formulations,
        "floor": measure_floor,
        "gpu": measure_gpu,
    }[part]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
