"""The part of a report on weights: those of the best trial at the epochs that were kept, layer by layer."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Final

import numpy as np

from ..figures.courses import weight_maps
from .data import ReportStudy, is_row, listed
from .gallery import Gallery
from .page import Html, section, tag

OPEN_LAYERS: Final = 4  # of deeper networks the maps are folded away
_WORDS: Final = "Rows are input units with the bias below, columns output units."


def weights(study: ReportStudy, best: dict[str, Any], gallery: Gallery) -> Html:
    """The weights of the best trial at the epochs that were kept."""
    found = study.tables.read("weights", where=is_row(best)).to_pydict()
    if not found["epoch"]:
        told = "They were not kept (results: weights in the study file)."
        return section("Weights of the best trial by epoch", tag("p", told, class_="quiet"))
    epoch, layer, row, column, value = (np.array(found[n]) for n in ("epoch", "layer", "row", "column", "value"))
    epochs = sorted(set(epoch.tolist()))
    pictures = []
    for number in np.unique(layer):
        maps = {}
        for at in epochs:
            own = (layer == number) & (epoch == at)
            table = np.full((row[own].max() + 2, column[own].max() + 1), np.nan)
            table[np.where(row[own] < 0, -1, row[own]), column[own]] = value[own]
            maps[_name(at, best, last=at == epochs[-1])] = table
        title = f"Layer {number}" + (", the output" if number == layer.max() else "")
        pictures.append(
            gallery.hang(
                f"weights-layer-{number}",
                partial(weight_maps, maps, title=title),
                f"Weights of layer {number} by epoch",
                wide=True,
                caption=False,
            )
        )
    maps_of_all = tag("div", *pictures, class_="figures")
    if len(pictures) > OPEN_LAYERS:
        maps_of_all = tag("details", tag("summary", f"Show {len(pictures)} layers"), maps_of_all)
    told = f"{_WORDS} {_not_kept(best, epochs)}".strip()
    return section("Weights of the best trial by epoch", tag("p", told, class_="quiet"), maps_of_all)


def _name(epoch: int, best: dict[str, Any], *, last: bool) -> str:
    """A kept epoch as its map is headed: those after the first stage by the iteration of the second."""
    done = best["epochs_done"]
    name = f"epoch {epoch}" if done is None or epoch <= done else f"iteration {epoch - done}"
    return f"{name}, the last" if last else name


def _not_kept(best: dict[str, Any], epochs: list[int]) -> str:
    """Which epochs of the study file have no map, and why."""
    wanted = json.loads(best["keep_epochs"]) if best["keep_epochs"] else []
    missing = [epoch for epoch in wanted if epoch not in epochs]
    if not missing:
        return ""
    done = best["epochs_done"]
    why = f": its first stage ended after {done}" if done is not None and min(missing) > done else ""
    return f"Epoch {listed(missing)} of keep_epochs was not kept{why}."
