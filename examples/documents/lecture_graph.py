"""Rebuild the lecture's dataflow graph of four expressions, and every number that it prints of it.

The graph has one input, xa, one output, xw, and four learnable parameters. Its printed derivatives are forward
differences of step 1e-4; ours come from autograd too. Run it: `python examples/documents/lecture_graph.py`.
"""

import math
import operator
import re

import torch

from table import Row, equal, show

EXPRESSIONS = {"xx": "xa^2", "xy": "ab*xx + ac*xa", "xz": "bc*xx + xy", "xw": "cd*xx + xz^3"}
TRUE = {"ab": 1.0, "bc": 2.0, "cd": 3.0, "ac": 4.0}
STEP = 1e-4
XA_1000, PREDICTED_1000 = 0.8933787891895923, 2.1718835784922437
XA_2000, PREDICTED_2000 = -0.5827703346221946, -0.5157700093872639
# of sample 1000: the derivatives that are parameters; bc is not legible, the prediction gives it
PRINTED = {"ab": 0.6303669260676603, "ac": 0.6490757788568668, "cd": 0.8134345602339721}
CD_AFTER = 0.8134339110108809


def tables() -> tuple[dict, dict]:
    """Return depends_on and leads_to: the variables that enter a node's expression, and those it enters."""
    depends = {node: sorted(set(re.findall(r"\bx\w", text))) for node, text in EXPRESSIONS.items()}
    leads = {node: sorted(n for n in depends if node in depends[n]) for node in ("xa", *depends)}
    return depends, {node: names for node, names in leads.items() if names}


def signed_power(base: float, n: int) -> float:
    """Return the power as text with a number pasted in has it: in '-0.5**2' the minus binds weaker."""
    return -((-base) ** n) if base < 0 else base**n


def no_power(base, n: int):
    """Return the base: the graph without its nonlinearities."""
    return base


def node(name: str, values: dict, power=operator.pow):
    """Return the value of one node, given all that enters it."""
    factors = [[factor.split("^") for factor in term.split("*")] for term in EXPRESSIONS[name].split(" + ")]
    return sum(math.prod(power(values[base], int(*n or [1])) for base, *n in term) for term in factors)


def forward(values: dict, power=operator.pow) -> dict:
    """Return the values of all nodes."""
    for name in EXPRESSIONS:
        values = values | {name: node(name, values, power)}
    return values


def difference(name: str, by: str, values: dict) -> float:
    """Return the forward difference of one node by one of the values that enter it."""
    return (node(name, values | {by: values[by] + STEP}) - node(name, values)) / STEP


def exact(name: str, by: str, values: dict) -> float:
    """Return the same derivative by autograd."""
    leaf = torch.tensor(values[by], dtype=torch.float64, requires_grad=True)
    return float(torch.autograd.grad(node(name, values | {by: leaf}), leaf)[0])


def sample_1000() -> dict:
    """Return all values of sample 1000, with the bc that its printed prediction asks for."""
    known = forward({"xa": XA_1000, **PRINTED, "bc": 0.0})
    cube_root = (PREDICTED_1000 - known["cd"] * known["xx"]) ** (1 / 3)
    return forward(known | {"bc": (cube_root - known["xy"]) / known["xx"]})


def printed_rows() -> list[Row]:
    """Return the rows of the numbers printed for samples 1000 and 2000."""
    values = sample_1000()
    printed = {
        ("xz", "bc"): "0.7981256609738974",
        ("xw", "cd"): "0.7981256609745913",
        ("xy", "ab"): "0.798125660973481",
        ("xy", "ac"): "0.8933787891896",
        ("xx", "xa"): "1.786857578379708",
        ("xw", "xz"): "3.970949898415288",
        ("xw", "xx"): str(PRINTED["cd"]),
        ("xy", "xx"): str(PRINTED["ab"]),
        ("xy", "xa"): str(PRINTED["ac"]),
    }
    rows = []
    for (name, by), text in printed.items():
        ours, true = difference(name, by, values), exact(name, by, values)
        off = f"{abs(true - ours):.1e}" if abs(true - ours) > 1e-9 else "none"
        near = abs(ours - float(text)) < 1e-9
        rows.append(Row(f"d{name}/d{by}, step 1e-4", text, f"{ours:.10f}", near, f"exact: {true:.10f}, off: {off}"))

    names = ("ab", "ac", "bc", "cd")
    right, pasted = (
        [forward({"xa": XA_2000, **known}, power)["xw"] for known in (TRUE, {name: values[name] for name in names})]
        for power in (operator.pow, signed_power)
    )
    loss = abs(forward({"xa": XA_1000, **TRUE})["xw"] - PREDICTED_1000)
    losses = [abs(target - PREDICTED_2000) for target, _ in (right, pasted)]
    near = abs(pasted[1] - PREDICTED_2000) < 1e-3
    change = (values["cd"] - CD_AFTER) / (values["cd"] * values["xx"])
    text = str(PREDICTED_2000)
    sign = "'-0.58**2' is -(0.58^2): as if pasted in as text"
    return [
        *rows,
        Row("bc at 1000, from the prediction", "0.0", f"{values['bc']:.6f}", 0 < values["bc"] < 0.1, "digits cut"),
        equal("loss at sample 1000", "212.7733678538975", loss, 1e-11, "the absolute difference, not its square"),
        Row("loss at sample 2000, xx = xa^2", "38.09662138083069", f"{losses[0]:.6f}", losses[0] < 1, "not as printed"),
        equal("loss at sample 2000, xx = -(xa^2)", "38.09662138083069", losses[1], 1e-11, sign),
        Row("prediction 2000, xx = xa^2", text, f"{right[1]:.3f}", right[1] > 0.2, "parameters of sample 1000"),
        Row("prediction 2000, xx = -(xa^2)", text, f"{pasted[1]:.3f}", near, "they moved by 4e-5 in the 1000 before"),
        Row(
            "change of cd at sample 1000 / (cd xx)",
            "",
            f"{change:.4e}",
            abs(change - 1e-6) < 1e-11,
            "no loss in it",
        ),
    ]


def predict(parameters: torch.Tensor, xa: torch.Tensor, power=operator.pow) -> torch.Tensor:
    """Return xw of many inputs."""
    return forward({"xa": xa, **dict(zip(TRUE, parameters, strict=True))}, power)["xw"]


def learning_rows() -> list[Row]:
    """Return the rows of what the graph can learn from 100 inputs."""
    xa = torch.linspace(-1, 1, 100, dtype=torch.float64)
    p = torch.tensor([sample_1000()[name] for name in TRUE], dtype=torch.float64, requires_grad=True)
    ranks = [
        int(torch.linalg.matrix_rank(torch.autograd.functional.jacobian(lambda q, e=power: predict(q, xa, e), p)))
        for power in (operator.pow, no_power)
    ]
    apart = (p[0] - p[1]).item()
    target = predict(torch.tensor(list(TRUE.values()), dtype=torch.float64), xa)
    optimizer = torch.optim.LBFGS([p], max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = (predict(p, xa) - target).square().mean()
        value.backward()
        return value

    before = optimizer.step(loss).item()
    after = loss().item()
    ab, bc, cd, ac = p.tolist()
    sums = f"{ab + bc:.3f}, {ac:.3f}, {cd:.3f}"
    right = max(abs(ab + bc - 3), abs(ac - 4), abs(cd - 3)) < 1e-3
    same = abs(ab - bc - apart) < 1e-9
    losses = f"{before:.0f}, < 1e-9"
    learns = "the loss falls: the square and the cube are nonlinearities"
    whole = "xw = cd xa^2 + ((ab + bc) xa^2 + ac xa)^3 holds no more than these"
    return [
        Row(
            "rank of d xw / d parameters, 100 inputs",
            "4 learnable",
            f"{ranks[0]}",
            ranks[0] == 3,
            "only ab + bc counts",
        ),
        Row("the same with both powers left out", "", f"{ranks[1]}", ranks[1] == 1, "one number can be learned"),
        Row("loss before and after 100 steps of L-BFGS", "not falling", losses, after < 1e-9, learns),
        Row("ab + bc, ac, cd after training", "3, 4, 3", sums, right, whole),
        Row(
            "ab, bc after training", "1, 2", f"{ab:.3f}, {bc:.3f}", same, "not identifiable: ab - bc stays at its start"
        ),
    ]


def table_rows() -> list[Row]:
    """Return the rows of the two tables of the graph, against the printed ones."""
    printed = "xa; xa xx; xx xy; xx xz", "xx xy; xw xy xz; xz; xw"
    ours = ["; ".join(" ".join(names) for names in table.values()) for table in tables()]
    whats = "depends_on of xx, xy, xz, xw", "leads_to of xa, xx, xy, xz"
    return [Row(what, text, our, our == text) for what, text, our in zip(whats, printed, ours, strict=True)]


def rows() -> list[Row]:
    """Return all rows of the lecture's dataflow graph."""
    return table_rows() + printed_rows() + learning_rows()


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, text in EXPRESSIONS.items():
        print(f"{name} = {text.ljust(14)} depends on {' '.join(tables()[0][name])}")
    show(rows())
