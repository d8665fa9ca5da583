"""The part of a report on weights: those of the best trial at the kept epochs, layer by layer."""

from __future__ import annotations

import json
from typing import Final

import numpy as np

from ..errors import listed
from ..figures.courses import weight_maps
from ..trial.tables import Row
from .data import ReportStudy
from .gallery import Gallery
from .page import Html, figures, section, tag

OPEN_LAYERS: Final = 4  # the maps of deeper networks are folded away
_TITLE: Final = "Weights of the best trial by epoch"
_WORDS: Final = "Rows are input units, with the bias at the bottom; columns are output units."


def weights(study: ReportStudy, best: Row, gallery: Gallery) -> Html:
    """Return the section on the weights of the best trial at the kept epochs."""
    columns = study.part("weights").to_pydict()
    if not columns["epoch"]:
        return section(_TITLE, "The weights were not kept (results: weights in the study file).")
    epoch, layer, row, column, value = (np.array(columns[n]) for n in ("epoch", "layer", "row", "column", "value"))
    epochs = sorted(set(epoch.tolist()))
    pictures = []
    for number in np.unique(layer):
        maps = {}
        for kept_epoch in epochs:
            here = (layer == number) & (epoch == kept_epoch)
            table = np.full((row[here].max() + 2, column[here].max() + 1), np.nan)
            table[np.where(row[here] < 0, -1, row[here]), column[here]] = value[here]
            maps[_name(kept_epoch, best, last=kept_epoch == epochs[-1])] = table
        figure = weight_maps(maps, title=f"Layer {number}" + (" (output)" if number == layer.max() else ""))
        description = f"Weights of layer {number} by epoch"
        pictures.append(gallery.hang(f"weights-layer-{number}", figure, description, wide=True))
    maps_of_all = figures(*pictures)
    if len(pictures) > OPEN_LAYERS:
        maps_of_all = tag("details", tag("summary", f"Show {len(pictures)} layers"), maps_of_all)
    return section(_TITLE, f"{_WORDS} {_not_kept(best, epochs)}".strip(), maps_of_all)


def _name(epoch: int, best: Row, *, last: bool) -> str:
    """Return the heading of the map of a kept epoch: after the first stage, the iteration of the second."""
    epochs_done = best["epochs_done"]
    name = f"epoch {epoch}" if epochs_done is None or epoch <= epochs_done else f"iteration {epoch - epochs_done}"
    return f"{name} (final)" if last else name


def _not_kept(best: Row, epochs: list[int]) -> str:
    """Return a sentence on the epochs of the study file that have no map, and why."""
    requested = json.loads(best["keep_epochs"]) if best["keep_epochs"] else []
    missing = [epoch for epoch in requested if epoch not in epochs]
    if not missing:
        return ""
    epochs_done = best["epochs_done"]
    ended_early = epochs_done is not None and min(missing) > epochs_done
    why = f" (the first stage ended after {epochs_done} epochs)" if ended_early else ""
    return f"Not kept of keep_epochs: {listed(missing)}{why}."
