"""The run of the benchmark: the selected parts in order, and the comparisons."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from .bars import compare
from .interleaved import Say
from .machine import describe_machine, granted_cores
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
    timings: list[Timing] = []
    for part in options.parts:
        chosen = (1,) if part in "ef" and options.threads is None else threads
        timings += _measure(part)(options, threads=chosen, say=say)
        keep(Report(options, machine, tuple(timings), tuple(compare(timings))))
    return Report(options, machine, tuple(timings), tuple(compare(timings)))


def _measure(part: str) -> Callable[..., list[Timing]]:
    from .parts.equations import measure_equations
    from .parts.evaluation import measure_evaluation
    from .parts.formulations import measure_formulations
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
    }[part]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
