"""Measurements of a worker's device use."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sweeps.owner.messages import DeviceLoad
from sweeps.runner.device_use import DeviceUse


class Machine:
    """Clock and processor time set by hand."""

    now = used_s = 0.0

    def use(self, device: str = "cpu") -> DeviceUse:
        return DeviceUse(device, clock=lambda: self.now, cpu_s=lambda: self.used_s)


def test_busy_cores_are_those_since_the_last_look() -> None:
    machine = Machine()
    use = machine.use()
    assert use.look() == DeviceLoad()
    machine.now, machine.used_s = 2.0, 3.0
    assert use.look() == DeviceLoad(1.5)
    machine.now, machine.used_s = 2.1, 3.1
    assert use.look() == DeviceLoad(1.5), "too soon to measure again"
    machine.now, machine.used_s = 4.0, 4.0
    assert use.look() == DeviceLoad(0.5)


@pytest.mark.parametrize("load", [0.71, None], ids=["reported", "not reported"])
def test_a_gpu_is_measured_with_its_memory(monkeypatch: pytest.MonkeyPatch, load: float | None) -> None:
    def utilization(device: Any) -> int:
        if load is None:
            raise ModuleNotFoundError("pynvml does not seem to be installed or it can't be imported.")
        return 71

    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3_000_000_000)
    monkeypatch.setattr(torch.cuda, "utilization", utilization)
    machine = Machine()
    use = machine.use("cuda")
    machine.now, machine.used_s = 1.0, 0.25
    assert use.look() == DeviceLoad(0.25, 3e9, load)
