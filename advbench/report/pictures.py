"""Images in rows and columns, as an Altair chart that holds them itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from PIL import Image

_CELL = 72


def grid(cells: Sequence[tuple[str, str, np.ndarray]], cell: int = _CELL) -> Any:
    """A grid of images, its rows and columns in the order of the cells.

    :param cells: of each image the name of its row, that of its column, and itself: (C, H, W) in [0, 1] with one channel
        or three.
    :param cell: the side that an image is shown with, in pixels.
    """
    table = pd.DataFrame([{"row": row, "column": column, "png": _png(image)} for row, column, image in cells])
    chart = alt.Chart(table).mark_image(width=cell, height=cell)
    return chart.encode(
        x=alt.X("column:O", sort=None, title=None, axis=alt.Axis(labelAngle=0, orient="top")),
        y=alt.Y("row:O", sort=None, title=None),
        url="png:N",
    ).properties(width=alt.Step(cell + 8), height=alt.Step(cell + 8))


def _png(image: np.ndarray) -> str:
    """An image as a data URI, a small one twice as large so that no viewer blurs it."""
    pixels = (image.transpose(1, 2, 0) * 255).round().astype(np.uint8)
    if image.shape[2] < _CELL:
        pixels = pixels.repeat(2, axis=0).repeat(2, axis=1)
    stream = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
