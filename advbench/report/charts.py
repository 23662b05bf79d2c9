"""The chart forms of the exhibits, as Altair charts: one specification serves the page and the figures for a paper.

Every chart by groups has a parameter ``hidden``: the page lists there the groups that its reader has switched off.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal

import altair as alt
import pandas as pd

COLOURS = ["#1f77b4", "#cc4b37", "#2a9134", "#8e63ce", "#a86b00", "#0e8a8a", "#c2459b", "#7a7a7a"]
"""Each at least 3 : 1 against white and against the page's dark paper."""

Scale = Literal["chance", "share", "log"]

_WIDTH, _HEIGHT = 440, 280
_GREY = "#7a7a7a"
_SHARES = alt.Scale(domain=[0.4, 1.02], nice=False)  # a little more than the whole: a mark at 1 is not cut in half


def scatter(
    table: pd.DataFrame, x: str, y: str, colour: str, details: Sequence[str] = (), connect: str | None = None
) -> alt.LayerChart:
    """Marks at (x, y), both shares in 0..1, a colour and a shape a group; chance as a dashed line at 0.5.

    :param details: further columns for the tooltip.
    :param connect: the column along which the marks of a group are joined.
    """
    missing = [column for column in (x, y, *details) if column not in table]
    table = table.reindex(columns=[*table.columns, *missing]).astype({x: float, y: float})
    base = shown(table, colour).encode(
        x=alt.X(x, scale=alt.Scale(domain=[-0.02, 1.02], nice=False), axis=alt.Axis(tickCount=6), title=_words(x)),
        y=_share(y, _words(y)),
        color=coloured(colour, table[colour]),
    )
    hover: list[Any] = [colour, *details, alt.Tooltip(x, format=".3f"), alt.Tooltip(y, format=".3f")]
    domain = alt.Scale(domain=_groups(table[colour]))
    shape = alt.Shape(colour, title=_words(colour), scale=domain)
    layers: list[Any] = [
        _chance(),
        base.mark_point(filled=True, opacity=1, size=80, clip=True).encode(shape=shape, tooltip=hover),
    ]
    if connect is not None:
        layers.insert(1, base.mark_line(opacity=0.5, clip=True).encode(order=connect))
    return _sized(alt.layer(*layers).add_params(hidden()))


def lines(
    table: pd.DataFrame,
    x: str,
    y: str,
    colour: str,
    x_title: str,
    y_title: str,
    band: tuple[str, str] | None = None,
    scale: Scale = "chance",
    panel: str | None = None,
) -> alt.LayerChart | alt.FacetChart:
    """One line a group over an ordinal x, with an optional band between two columns.

    :param scale: of y: ``chance`` for balanced accuracies, with chance as a dashed line, ``share`` for 0..1, or ``log``.
    :param panel: the column of the panels, which stand side by side; not with the scale ``chance``.
    """
    scales = {"chance": _SHARES, "share": alt.Scale(domain=[0, 1]), "log": alt.Scale(type="log")}
    hover: list[Any] = [*([panel] if panel else []), colour, x, alt.Tooltip(y, format=".3f")]
    base = shown(table, colour).encode(
        x=alt.X(f"{x}:O", title=x_title, axis=alt.Axis(labelAngle=0)), color=coloured(colour, table[colour])
    )
    up = partial(alt.Y, scale=scales[scale], title=y_title)
    layers: list[Any] = [base.mark_line(point=True).encode(y=up(f"{y}:Q"), tooltip=hover)]
    if band is not None:
        layers.insert(0, base.mark_area(opacity=0.15).encode(y=up(f"{band[0]}:Q"), y2=band[1]))
    if scale == "chance":
        layers.insert(0, _chance())
    chart = alt.layer(*layers).add_params(hidden())
    if panel is None:
        return _sized(chart)
    panels = chart.properties(width=_WIDTH // 2, height=_HEIGHT).facet(column=alt.Column(f"{panel}:N", title=None))
    return _styled(panels)


def bars(
    table: pd.DataFrame,
    x: str,
    y: str,
    colour: str,
    y_title: str,
    error: tuple[str, str] | None = None,
    mark: str | None = None,
) -> alt.LayerChart:
    """Grouped bars of shares in 0..1, in the order of the rows.

    :param error: the columns of the lower and upper end of an error bar.
    :param mark: a column that is marked with a line across each bar, such as the number of a report.
    """
    order, groups = list(dict.fromkeys(table[x])), alt.Scale(domain=_groups(table[colour]))
    columns = [x, y, colour, *(error or ()), *([mark] if mark else [])]
    base = shown(table[columns], colour).encode(
        x=alt.X(f"{x}:N", sort=order, title=None, axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset(f"{colour}:N", scale=groups),
        tooltip=[x, colour, *(alt.Tooltip(column, format=".3f") for column in columns if column not in (x, colour))],
    )
    share = alt.Y(f"{y}:Q", scale=alt.Scale(domain=[0, 1]), title=y_title)
    layers: list[Any] = [base.mark_bar().encode(y=share, color=coloured(colour, table[colour]))]
    if error is not None:
        layers.append(base.mark_rule(color="black").encode(y=alt.Y(f"{error[0]}:Q", title=y_title), y2=error[1]))
    if mark is not None:
        layers.append(base.mark_tick(color="black", thickness=2).encode(y=alt.Y(f"{mark}:Q", title=y_title)))
    return _sized(alt.layer(*layers).add_params(hidden()))


def curves(table: pd.DataFrame, x: str, y: str, colour: str, y_title: str, log: bool = False) -> alt.Chart:
    """One line a group over a number, such as an epoch."""
    scale = alt.Scale(type="log") if log else alt.Scale(zero=True)
    lines = shown(table[[x, y, colour]], colour).mark_line()
    return _sized(
        lines.encode(
            x=alt.X(f"{x}:Q", title=_words(x), axis=alt.Axis(tickCount=6)),
            y=alt.Y(f"{y}:Q", title=y_title, scale=scale),
            color=coloured(colour, table[colour]),
            tooltip=[colour, x, alt.Tooltip(y, format=".4f")],
        ).add_params(hidden())
    )


def dots(table: pd.DataFrame, x: str, y: str, group: str, x_title: str, spread: tuple[str, str]) -> alt.FacetChart:
    """One dot a row on a logarithmic axis with its spread as a line; one panel a group, below each other."""
    columns = [x, y, group, *spread]
    base = alt.Chart(table[columns]).encode(
        y=alt.Y(f"{y}:N", title=None, sort=list(dict.fromkeys(table[y]))),
        tooltip=[group, y, *(alt.Tooltip(column, format=".3f") for column in (x, *spread))],
    )
    scale = alt.Scale(type="log")
    dot = base.mark_point(filled=True, size=60).encode(x=alt.X(f"{x}:Q", scale=scale, title=x_title))
    line = base.mark_rule().encode(x=alt.X(f"{spread[0]}:Q", scale=scale, title=x_title), x2=spread[1])
    panel = alt.layer(line, dot).properties(width=_WIDTH)
    return panel.facet(row=alt.Row(f"{group}:N", title=None, sort=list(dict.fromkeys(table[group])))).resolve_scale(
        y="independent"
    )


def heat_map(
    cells: pd.DataFrame, x: str, y: str, domain: tuple[float, float] = (0.5, 1), title: str = "detectability"
) -> alt.LayerChart:
    """A matrix of ``value`` with the number in each cell; axes in the order of the rows, colours over ``domain``."""
    base = alt.Chart(cells[[x, y, "value"]]).encode(
        x=alt.X(f"{x}:O", sort=list(dict.fromkeys(cells[x])), title=_words(x), axis=alt.Axis(labelAngle=-45)),
        y=alt.Y(f"{y}:O", sort=list(dict.fromkeys(cells[y])), title=_words(y)),
        tooltip=[x, y, alt.Tooltip("value", format=".3f")],
    )
    colour = alt.Color("value", scale=alt.Scale(scheme="blues", domain=list(domain), clamp=True), title=title)
    dark = domain[0] + 0.72 * (domain[1] - domain[0])
    ink = alt.condition(f"datum.value > {dark:g}", alt.value("white"), alt.value("black"))
    return _sized(
        alt.layer(
            base.mark_rect().encode(color=colour),
            base.mark_text().encode(text=alt.Text("value", format=".2f"), color=ink),
        )
    )


def pairs(table: pd.DataFrame, y: str, before: str, after: str, colour: str, x_title: str) -> alt.LayerChart:
    """One line a row from the share ``before`` (a ring) to the share ``after`` (a dot), in the order of the rows.

    :param colour: the column of the group; rows differ in ``y``.
    """
    columns = [y, before, after, colour]
    base = shown(table[columns], colour).encode(
        y=alt.Y(f"{y}:N", sort=list(dict.fromkeys(table[y])), title=None, axis=alt.Axis(labelLimit=200)),
        color=coloured(colour, table[colour]),
        tooltip=[y, colour, *(alt.Tooltip(column, format=".3f") for column in (before, after))],
    )
    scale = alt.Scale(domain=[-0.02, 1.02], nice=False)
    start = alt.X(f"{before}:Q", scale=scale, title=x_title, axis=alt.Axis(tickCount=6))
    end = alt.X(f"{after}:Q", scale=scale, title=x_title)
    layers = [
        base.mark_rule().encode(x=start, x2=after),
        base.mark_point(size=70).encode(x=start),
        base.mark_point(filled=True, opacity=1, size=70).encode(x=end),
    ]
    return _sized(alt.layer(*layers).add_params(hidden())).properties(height=20 * table[y].nunique())


def differences(table: pd.DataFrame) -> alt.LayerChart:
    """One line a ``figure`` with its ``difference`` and the interval ``low`` to ``high``, in the order of the rows."""
    table = table[["figure", "difference", "low", "high"]]
    hover: list[Any] = ["figure", *(alt.Tooltip(column, format="+.3f") for column in ("difference", "low", "high"))]
    y = alt.Y("figure:N", sort=list(dict.fromkeys(table.figure)), title=None, axis=alt.Axis(labels=False, ticks=False))
    base = alt.Chart(table).encode(y=y, tooltip=hover)
    zero = alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule(strokeDash=[4, 4], color=_GREY).encode(x="zero:Q")
    interval = base.mark_rule(strokeWidth=3, color=COLOURS[0]).encode(x=alt.X("low:Q", title="difference"), x2="high:Q")
    points = base.mark_point(filled=True, opacity=1, size=80, color=COLOURS[1]).encode(x="difference:Q")
    names = base.mark_text(align="left", dy=-9, fontSize=11, limit=alt.expr("width - 8")).encode(
        x=alt.value(4), text="figure:N"
    )
    return _sized(alt.layer(zero, interval, points, names)).properties(height=32 * len(table))


def shown(table: pd.DataFrame, group: str) -> alt.Chart:
    """A chart of the rows whose group is not in ``hidden``; one of its layers must hold that parameter."""
    return alt.Chart(table).transform_filter(f"indexof(hidden, datum[{json.dumps(group)}]) < 0")


def hidden() -> alt.Parameter:
    """The groups that the reader of the page has switched off."""
    return alt.param(name="hidden", value=[])


def coloured(column: str, values: Iterable[Any]) -> alt.Color:
    """Colours by a fixed domain: a group keeps its own when others are switched off."""
    return alt.Color(column, title=_words(column), scale=alt.Scale(domain=_groups(values), range=COLOURS))


def _groups(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _share(column: str, title: str) -> alt.Y:
    """A y axis for balanced accuracies: a little below chance to 1."""
    return alt.Y(f"{column}:Q", scale=_SHARES, title=title)


def _chance() -> alt.Chart:
    line = alt.Chart(pd.DataFrame({"chance": [0.5]})).mark_rule(strokeDash=[4, 4], color=_GREY)
    return line.encode(y=alt.Y("chance:Q", scale=_SHARES))


def _sized(chart: Any) -> Any:
    return _styled(chart.properties(width=_WIDTH, height=_HEIGHT))


def _styled(chart: Any) -> Any:
    return (
        chart.configure_view(strokeOpacity=0)
        .configure_axis(labelFontSize=12, titleFontSize=12)
        .configure_legend(symbolOpacity=1)
    )


def _words(column: str) -> str:
    return column.replace("_", " ")
