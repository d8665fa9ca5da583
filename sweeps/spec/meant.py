"""What people write in a study file and what they mean: other names, other spellings of numbers, words for no value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from .samplers import listing

LEFT_OUT: Final = "Leave it out."
_NO_VALUE: Final = frozenset({"", "nan", "none", "na", "n/a", "<na>", "#n/a", "null", "nil", "nat", "-"})
_OTHER_NAMES: Final = {  # of keys and values, as other programs call them
    **dict.fromkeys(("bayes", "bayesian", "bo", "optuna", "hyperopt", "botorch", "smac"), ("tpe", "gp")),
    **dict.fromkeys(("gaussian", "gaussian_process", "gpr", "kriging"), ("gp",)),
    **dict.fromkeys(("random_search", "uniform", "monte_carlo"), ("random",)),
    **dict.fromkeys(("sobol", "halton", "lhs", "latin_hypercube", "quasi_random"), ("qmc",)),
    **dict.fromkeys(("genetic", "evolution", "evolutionary", "ga"), ("nsga2",)),
    **dict.fromkeys(("grid_search", "gridsearch", "exhaustive", "full_factorial"), ("grid",)),
    **dict.fromkeys(("csv", "file", "table"), ("list",)),
    **dict.fromkeys(("sha", "successive_halving"), ("asha",)),
    **dict.fromkeys(("early_stopping", "early_stop", "plateau"), ("patience",)),
    **dict.fromkeys(("off", "no"), ("none",)),
    **dict.fromkeys(("swish",), ("silu",)),
    **dict.fromkeys(("double", "fp64", "f64"), ("float64",)),
    **dict.fromkeys(("single", "float", "fp32", "f32"), ("float32",)),
    **dict.fromkeys(("gpu", "nvidia"), ("cuda",)),
    **dict.fromkeys(("l-bfgs-b", "lbfgsb", "lbfgs-b"), ("scipy",)),
    **dict.fromkeys(("learning_rate",), ("adam_lr",)),
    **dict.fromkeys(("neurons", "units", "hidden", "hidden_size", "hidden_units"), ("width",)),
    **dict.fromkeys(("layers", "hidden_layers", "num_layers", "n_layers"), ("depth",)),
    **dict.fromkeys(("n_trials", "num_trials", "num_samples"), ("trials",)),
}
_KINKED: Final = (
    "{} has a second derivative of zero, so the residual of a second-order equation gives no gradient: use {}."
)
_UNSUITABLE: Final = {  # values that are left out on purpose, and why
    **dict.fromkeys(("relu", "leaky_relu", "leakyrelu", "prelu", "relu6", "hardtanh", "hard_tanh", "linear"), _KINKED),
    **dict.fromkeys(
        ("float16", "half", "fp16", "bfloat16", "bf16"), "{} is too coarse for derivatives of second order: use {}."
    ),
}
_PLAIN: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")  # as YAML reads numbers
_GROUPED: Final = re.compile(r"[-+]?[1-9][0-9]{0,2}(?:([_,' \u00a0\u2009\u202f])[0-9]{3})(?:\1[0-9]{3})*(\.[0-9]+)?")
_DECIMAL_COMMA: Final = re.compile(r"([-+]?[0-9]+),([0-9]+)((?:[eE][-+]?[0-9]+)?)")
_ANY: Final = re.compile(r".+")
_READINGS: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], float]], ...]] = (
    (_GROUPED, lambda found: float(found[0].replace(found[1], ""))),
    (_DECIMAL_COMMA, lambda found: float(f"{found[1]}.{found[2]}{found[3]}")),
    (re.compile(r"([-+]?[0-9.]+)[dD]([-+]?[0-9]+)"), lambda found: float(f"{found[1]}e{found[2]}")),
    (re.compile(r"([0-9.]+)(?:\^|\*\*)\(?([-+]?[0-9]{1,3})\)?"), lambda found: float(found[1]) ** int(found[2])),
    (re.compile(r"([-+]?[0-9.]+) ?/ ?([0-9.]+)"), lambda found: float(found[1]) / float(found[2])),
    (re.compile(r"([-+]?[0-9.]+) ?%"), lambda found: float(found[1]) / 100),
    (_ANY, lambda found: float(found[0])),
    (_ANY, lambda found: float(int(found[0], 0))),  # 0x10, 0o17, 0b101
)


def other_names(name: str, valid: Sequence[str]) -> list[str]:
    """Return the names among `valid` that other programs call `name`."""
    word = re.sub(r"[ -]", "_", name.strip().lower())
    return [meant for meant in _OTHER_NAMES.get(name.lower(), _OTHER_NAMES.get(word, ())) if meant in valid]


def why_not(name: str, valid: Sequence[str]) -> str:
    """Return why a value that others offer is not among `valid`, as a hint; empty where there is no such reason."""
    word = re.sub(r"[ -]", "_", name.strip().lower())
    reason = _UNSUITABLE.get(word)
    is_meant = ("tanh" in valid) if reason is _KINKED else ("float64" in valid)
    return reason.format(name, listing(valid, "or")) if reason and is_meant else ""


def is_no_value(value: Any) -> bool:
    """Return whether a value stands for none: null, not-a-number, or a word that tables have for it."""
    if isinstance(value, str):
        return value.strip().lower().lstrip(".") in _NO_VALUE
    return value is None or (isinstance(value, float) and math.isnan(value))


def number_hint(text: str, *, is_whole: bool) -> str:
    """Return how to write the number that a text stands for, as a hint; empty where it stands for none.

    YAML 1.2 reads 1_000, 1,000 and 0x10 as text; a text that it would read as a number was put in quotes.
    """
    if _PLAIN.fullmatch(text):
        return "Remove the quotes."
    value = _value(text.strip())
    if value is None or not math.isfinite(value) or (is_whole and not value.is_integer()):
        return ""
    written = _written(value)
    if not is_whole and _DECIMAL_COMMA.fullmatch(text.strip()) and _GROUPED.fullmatch(text.strip()):
        return f"Write {written}, or {text.strip().replace(',', '.')} if the comma is a decimal point."
    return f"Write {written}."


def _value(text: str) -> float | None:
    """Return the number that a text stands for, None where it stands for none."""
    if len(text) > 40:
        return None
    for pattern, reading in _READINGS:
        found = pattern.fullmatch(text)
        try:
            if found is not None:
                return reading(found)
        except (ValueError, ArithmeticError):
            continue
    return None


def _written(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
