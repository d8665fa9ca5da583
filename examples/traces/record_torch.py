"""Train in PyTorch, and record a trace: python record_torch.py GAUSS.csv LRB.csv BTB.csv OUT.npz [EPOCHS]."""

import json
import sys

import numpy as np
import torch

LAYERS = [4, 8, 8, 1]
files, out, epochs = sys.argv[1:4], sys.argv[4], int(sys.argv[5]) if len(sys.argv) > 5 else 20
tables = [np.genfromtxt(file, delimiter=",", names=True) for file in files]
sets = [np.stack([t["xcoord"], t["ycoord"], t["g"], 10 * t["elocal"]], axis=1) for t in tables]
points = [torch.tensor(columns, dtype=torch.float64, requires_grad=True) for columns in sets]
torch.manual_seed(0)
net = torch.nn.Sequential()
for before, after in zip(LAYERS[:-1], LAYERS[1:]):  # noqa: B905, RUF007
    net.extend([torch.nn.Linear(before, after, dtype=torch.float64), torch.nn.Tanh()])
net = net[:-1]
linears = [layer for layer in net if isinstance(layer, torch.nn.Linear)]


def slope(values, inputs):
    return torch.autograd.grad(values.sum(), inputs, create_graph=True)[0]


def evaluate():
    """Return the loss, its terms, and the prediction with its derivatives."""
    plate, lrb, btb = points
    u = net(plate)
    first = slope(u, plate)
    laplacian = slope(first[:, 0], plate)[:, 0] + slope(first[:, 1], plate)[:, 1]
    seen = {"u": u[:, 0], "u_x": first[:, 0], "u_y": first[:, 1], "laplacian": laplacian}
    seen["lrb/u_x"], seen["btb/u_y"] = slope(net(lrb), lrb)[:, 0], slope(net(btb), btb)[:, 1]
    residual = u[:, 0] - plate[:, 2] * laplacian - plate[:, 3]
    terms = torch.stack([torch.linalg.norm(r) for r in (residual, seen["lrb/u_x"], seen["btb/u_y"])])
    return terms.sum(), terms, seen


# record: points, then weights, gradients and moments of each step, weights as (in, out)
arrays = {}
for term, table in zip(("residual", "lrb", "btb"), tables, strict=True):
    for symbol, name in (("x", "xcoord"), ("y", "ycoord"), ("g", "g"), ("elocal", "elocal")):
        arrays[f"points/{term}/{symbol}"] = table[name]


def record(group, **more):
    for level, layer in enumerate(linears, 1):
        for name, p in ((f"W{level}", layer.weight), (f"b{level}", layer.bias)):
            arrays[f"{group}/{name}"] = p.detach().numpy().T.copy()
            if p.grad is not None:
                arrays[f"{group}/grad_{name}"] = p.grad.numpy().T.copy()
    arrays.update({f"{group}/{name}": np.array(value) for name, value in more.items()})


adam = torch.optim.Adam(net.parameters(), lr=1e-3)
for step in range(epochs):
    adam.zero_grad()
    loss, terms, seen = evaluate()
    loss.backward()
    derivatives = {name: value.detach().numpy() for name, value in seen.items()} if step == 0 else {}
    record(f"step{step}", loss=loss.item(), loss_terms=terms.detach().numpy(), **derivatives)
    adam.step()

# the second stage, an iteration a call: with max_eval left at 1.25 max_iter no step would be taken
lbfgs = torch.optim.LBFGS(
    net.parameters(), lr=1.0, max_iter=1, max_eval=1000, history_size=50, line_search_fn="strong_wolfe",
    tolerance_grad=1e-7, tolerance_change=1e-6 * np.finfo(float).eps,
)  # fmt: skip
calls = 0


def closure():
    global calls
    calls += 1
    lbfgs.zero_grad()
    value = evaluate()[0]
    value.backward()
    return value


for iteration in range(min(epochs, 10)):
    loss = closure()
    record(f"iteration{iteration}", loss=loss.item())
    calls = 0
    lbfgs.step(closure)
    state = lbfgs.state[linears[0].weight]
    start = 0
    for level, layer in enumerate(linears, 1):
        for name, p in ((f"W{level}", layer.weight), (f"b{level}", layer.bias)):
            part = state["d"][start : start + p.numel()].view_as(p).numpy().T.copy()
            arrays[f"iteration{iteration}/direction_{name}"], start = part, start + p.numel()
    arrays[f"iteration{iteration}/length"] = np.array(float(state["t"]))
    arrays[f"iteration{iteration}/evaluations"] = np.array(calls - 1)  # the first call is at the weights themselves

manifest = {
    "format": "pinnsweep trace 1",
    "framework": "torch",
    "version": torch.__version__,
    "dtype": "float64",
    "layers": LAYERS,
    "settings": {"adam_lr": 1e-3, "second_stage": "lbfgs", "lbfgs_history": 50, "first_step": 1.0},
    "problem": {
        "name": "nonlocal_strain",
        "inputs": ["x", "y", "g", "elocal"],
        "scale_scope": "all",
        "strain_multiplier": 10.0,
    },
}
np.savez(out, manifest=json.dumps(manifest), **arrays)
