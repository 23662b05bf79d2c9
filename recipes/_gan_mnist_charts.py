"""The chart forms of ``gan_mnist``, as Altair charts."""

from __future__ import annotations

import base64
import io
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from PIL import Image

from advbench.report.charts import coloured, hidden, shown

_WIDTH, _HEIGHT, _CELL = 440, 280, 56


def curves(table: pd.DataFrame, log: bool, title: str) -> Any:
    """One panel a model, one line a t over the epochs, with a band from the lowest to the highest."""
    scale = alt.Scale(type="log") if log else alt.Scale(domain=[0, 1])
    table = table.assign(t=table.t.map("{:g}".format))
    base = shown(table, "t").encode(
        x=alt.X("epoch:O", axis=alt.Axis(labelAngle=0)),
        color=coloured("t", table.t),
        tooltip=["model", "t", "epoch", alt.Tooltip("mean", format=".3f")],
    )
    band = base.mark_area(opacity=0.15).encode(y=alt.Y("lowest:Q", scale=scale, title=title), y2="highest:Q")
    line = base.mark_line(point=True).encode(y=alt.Y("mean:Q", scale=scale, title=title))
    panel = alt.layer(band, line).add_params(hidden()).properties(width=_WIDTH // 2, height=_HEIGHT)
    return (
        panel.facet(column=alt.Column("model:N", title=None))
        .configure_view(strokeOpacity=0)
        .configure_legend(symbolOpacity=1)
    )


def against_t(table: pd.DataFrame, colour: str, title: str) -> Any:
    """One line a group over t, with a band from the lowest to the highest."""
    base = shown(table, colour).encode(
        x=alt.X("t:O", axis=alt.Axis(labelAngle=0)),
        color=coloured(colour, table[colour]),
        tooltip=[colour, "t", alt.Tooltip("mean", format=".3f")],
    )
    scale = alt.Scale(domain=[0, 1])
    band = base.mark_area(opacity=0.15).encode(y=alt.Y("lowest:Q", scale=scale, title=title), y2="highest:Q")
    line = base.mark_line(point=True).encode(y=alt.Y("mean:Q", scale=scale, title=title))
    chart = alt.layer(band, line).add_params(hidden())
    return (
        chart.properties(width=_WIDTH, height=_HEIGHT).configure_view(strokeOpacity=0).configure_legend(symbolOpacity=1)
    )


def pictures(images: np.ndarray, perturbations: np.ndarray, grid: tuple[float, ...]) -> Any:
    """A grid of images: for each digit its original, its perturbations and its attacks, one column a t.

    :param images: (D, C, H, W) in [0, 1].
    :param perturbations: (T, D, C, H, W), each in [-t, t].
    """
    cells = []
    for t, of_t in zip(grid, perturbations, strict=True):
        for digit, (image, perturbation) in enumerate(zip(images, of_t, strict=True), 1):
            shown = {
                "original": image,
                "perturbation": 0.5 + perturbation / (2 * t),
                "attack": np.clip(image + perturbation, 0, 1),
            }
            cells += [{"t": f"{t:g}", "of": f"digit {digit}, {kind}", "png": _png(a)} for kind, a in shown.items()]
    chart = alt.Chart(pd.DataFrame(cells)).mark_image(width=_CELL, height=_CELL)
    return chart.encode(
        x=alt.X("t:O", sort=None, axis=alt.Axis(labelAngle=0, orient="top")),
        y=alt.Y("of:O", sort=None, title=None),
        url="png:N",
    ).properties(width=alt.Step(_CELL + 4), height=alt.Step(_CELL + 4))


def _png(image: np.ndarray) -> str:
    """The first channel of an image (C, H, W) in [0, 1] as a data URI, twice as large so that no viewer blurs it."""
    pixels = (image[0] * 255).round().astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
