"""The values of a study file as it gives them, and those of a few keys of a long one."""

from __future__ import annotations

import time

import pytest

from sweeps.errors import SpecError
from sweeps.spec.outline import outline

TEXT = """\
# a comment
study: small
problem:
  name: nonlocal_strain
search: {sampler: list, list: [{width: 8},
  {width: 16}]}
"state": /there  # and another
"""


def test_of_a_whole_file() -> None:
    values = outline(TEXT)
    assert list(values) == ["study", "problem", "search", "state"]
    assert values["search"]["list"] == [{"width": 8}, {"width": 16}]


@pytest.mark.parametrize("text", [TEXT, "{study: small, state: /there}", TEXT.replace("\n", "\r\n")])
def test_of_some_keys(text: str) -> None:
    values = outline(text, ("study", "state"))
    assert (values["study"], values["state"]) == ("small", "/there")


def test_a_long_file_is_skipped_to_its_name() -> None:
    rows = "".join(f"    - {{width: {row}}}\n" for row in range(100_000))
    started = time.process_time()
    assert outline(f"search:\n  list:\n{rows}study: long\n", ("study", "state")) == {"study": "long"}
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize("text", ["", "- a", "study: [", "study: a\nstudy: b", "search: {seed: 99999999999999999999}"])
@pytest.mark.parametrize("keys", [(), ("study",)])
def test_what_cannot_be_read_is_refused(text: str, keys: tuple[str, ...]) -> None:
    with pytest.raises(SpecError):
        outline(text, keys)
