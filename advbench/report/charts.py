"""The chart forms of the exhibits, as Altair charts: one specification serves the page and the figures for a paper.

Every chart by groups has a parameter ``hidden``: the page lists there the groups that its reader has switched off.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal

import altair as alt
import numpy as np
import pandas as pd

OURS, REPORT = "#1f77b4", "#a86b00"
"""The accents of our figures and of a report's. Each colour is at least 3 : 1 against white and the page's dark paper."""

COLOURS = [OURS, "#cc4b37", "#2a9134", "#8e63ce", "#6b7fd7", "#0e8a8a", "#c2459b", "#7a7a7a"]

Scale = Literal["chance", "share", "log"]
Ends = tuple[str, str]
"""The columns of the lower and the upper end of an interval."""

_WIDTH, _HEIGHT = 640, 320
_GREY = "#7a7a7a"
_FONT = 12
_FEW = 12  # points of a line, each of which is then marked


def scatter(
    table: pd.DataFrame,
    x: str,
    y: str,
    colour: str,
    details: Sequence[str] = (),
    connect: str | None = None,
    x_error: Ends | None = None,
    y_error: Ends | None = None,
) -> alt.LayerChart:
    """Marks at (x, y), both shares in 0..1, a colour and a shape a group; chance as a dashed line at 0.5.

    :param details: further columns for the tooltip.
    :param connect: the column along which the marks of a group are joined.
    :param x_error: the columns of the interval of x, drawn as a line; ``y_error`` those of y.
    """
    ends = [*(x_error or ()), *(y_error or ())]
    missing = [column for column in (x, y, *details, *ends) if column not in table]
    table = table.reindex(columns=[*table.columns, *missing]).astype(dict.fromkeys((x, y, *ends), float))
    domain = _domain(table[[y, *(y_error or ())]], 0.4)
    left, up = alt.Scale(domain=[-0.02, 1.02], nice=False), alt.Scale(domain=domain, nice=False)
    across = alt.X(f"{x}:Q", scale=left, axis=alt.Axis(tickCount=6), title=_words(x))
    base = shown(table, colour).encode(
        x=across, y=alt.Y(f"{y}:Q", scale=up, title=_words(y)), color=coloured(table, colour)
    )
    hover = [_tip(colour), *map(_tip, details), *(_tip(column, ".3f") for column in (x, y, *ends))]
    shape = alt.Shape(colour, title=_words(colour), scale=alt.Scale(domain=_groups(table[colour])))
    layers: list[Any] = [alt.Chart(pd.DataFrame({"chance": [0.5]})).mark_rule(strokeDash=[4, 4], color=_GREY)]
    layers[0] = layers[0].encode(y=alt.Y("chance:Q", scale=up))
    if connect is not None:
        layers.append(base.mark_line(opacity=0.5).encode(order=connect))
    if x_error is not None:
        layers.append(
            base.mark_rule(opacity=0.6).encode(x=alt.X(f"{x_error[0]}:Q", scale=left, title=_words(x)), x2=x_error[1])
        )
    if y_error is not None:
        layers.append(
            base.mark_rule(opacity=0.6).encode(y=alt.Y(f"{y_error[0]}:Q", scale=up, title=_words(y)), y2=y_error[1])
        )
    layers.append(base.mark_point(filled=True, opacity=1, size=80).encode(shape=shape, tooltip=hover))
    return _sized(alt.layer(*layers).add_params(hidden()))


def lines(
    table: pd.DataFrame,
    x: str,
    y: str,
    colour: str,
    x_title: str,
    y_title: str,
    band: Ends | None = None,
    scale: Scale = "chance",
    panel: str | None = None,
) -> alt.LayerChart | alt.FacetChart:
    """One line a group over an ordinal x, with an optional band between two columns.

    :param scale: of y: ``chance`` for balanced accuracies, with chance as a dashed line, ``share`` for 0..1, or ``log``.
    :param panel: the column of the panels, which stand side by side; not with the scale ``chance``.
    """
    floor = 0.4 if scale == "chance" else 0
    over = (
        alt.Scale(type="log")
        if scale == "log"
        else alt.Scale(domain=_domain(table[[y, *(band or ())]], floor), nice=False)
    )
    hover = [
        *([_tip(panel)] if panel else []),
        _tip(colour),
        _tip(x),
        *(_tip(column, ".3f") for column in (y, *(band or ()))),
    ]
    base = shown(table, colour).encode(
        x=alt.X(f"{x}:O", title=x_title, axis=alt.Axis(labelAngle=0)), color=coloured(table, colour)
    )
    up = partial(alt.Y, scale=over, title=y_title)
    layers: list[Any] = [base.mark_line(point=True).encode(y=up(f"{y}:Q"), tooltip=hover)]
    if band is not None:
        layers.insert(0, base.mark_area(opacity=0.15).encode(y=up(f"{band[0]}:Q"), y2=band[1]))
    if scale == "chance":
        line = alt.Chart(pd.DataFrame({"chance": [0.5]})).mark_rule(strokeDash=[4, 4], color=_GREY)
        layers.insert(0, line.encode(y=alt.Y("chance:Q", scale=over)))
    chart = alt.layer(*layers).add_params(hidden())
    if panel is None:
        return _sized(chart)
    panels = chart.properties(width=_WIDTH // 2 - 40, height=_HEIGHT).facet(column=alt.Column(f"{panel}:N", title=None))
    return _styled(panels)


def bars(
    table: pd.DataFrame, x: str, y: str, colour: str, y_title: str, error: Ends | None = None, mark: str | None = None
) -> alt.LayerChart:
    """Grouped bars of shares in 0..1, in the order of the rows.

    :param error: the columns of the lower and upper end of an error bar.
    :param mark: a column that is marked with a line across each bar in the report's colour: the number of a report.
    """
    order, groups = list(dict.fromkeys(table[x])), alt.Scale(domain=_groups(table[colour]))
    columns = [x, y, colour, *(error or ()), *([mark] if mark else [])]
    numbers = [column for column in columns if column not in (x, colour)]
    base = shown(table[columns], colour).encode(
        x=alt.X(f"{x}:N", sort=order, title=x, axis=alt.Axis(labelAngle=0, labelLimit=110)),
        xOffset=alt.XOffset(f"{colour}:N", scale=groups),
        tooltip=[_tip(x), _tip(colour), *(_tip(column, ".3f") for column in numbers)],
    )
    over = alt.Scale(domain=_domain(table[numbers], 0), nice=False)
    share = alt.Y(f"{y}:Q", scale=over, title=y_title)
    layers: list[Any] = [base.mark_bar().encode(y=share, color=coloured(table, colour))]
    if error is not None:
        layers.append(base.mark_rule(color="black").encode(y=alt.Y(f"{error[0]}:Q", title=y_title), y2=error[1]))
    if mark is not None:
        tick = base.mark_tick(color=REPORT, thickness=4)
        layers.append(tick.encode(y=alt.Y(f"{mark}:Q", title=y_title)))
    return _sized(alt.layer(*layers).add_params(hidden()))


def curves(
    table: pd.DataFrame,
    x: str,
    y: str,
    colour: str,
    y_title: str,
    log: bool = False,
    band: Ends | None = None,
    apart: Sequence[str] = (),
) -> alt.LayerChart:
    """One line a group over a number, such as an epoch or an eps; the points of a line of few are marked.

    :param band: the columns of an interval: lines at the marked points, a band around the others.
    :param apart: groups whose points no line joins.
    """
    columns = [x, y, colour, *(band or ())]
    few = table.groupby(colour)[y].transform("size") <= _FEW
    table = table[columns].assign(few=few, joined=~table[colour].isin(list(apart)))
    low = float(np.nanmin(table[[y, *(band or ())]].to_numpy(float), initial=0))
    over = alt.Scale(type="log") if log else alt.Scale(zero=True, domainMin=min(low, 0))
    base = shown(table, colour).encode(
        x=alt.X(f"{x}:Q", title=_words(x), axis=alt.Axis(tickCount=6)),
        color=coloured(table, colour),
        tooltip=[_tip(colour), _tip(x), *(_tip(column, ".4f") for column in (y, *(band or ())))],
    )
    up = partial(alt.Y, scale=over, title=y_title)
    few = base.transform_filter("datum.few")
    layers: list[Any] = [
        base.transform_filter("datum.joined").mark_line().encode(y=up(f"{y}:Q")),
        few.mark_point(filled=True, opacity=1, size=50).encode(y=up(f"{y}:Q")),
    ]
    if band is not None:
        ends = {"y": up(f"{band[0]}:Q"), "y2": band[1]}
        layers.insert(0, few.mark_rule(strokeWidth=2, opacity=0.7).encode(**ends))
        layers.insert(0, base.transform_filter("!datum.few").mark_area(opacity=0.15).encode(**ends))
    return _sized(alt.layer(*layers).add_params(hidden()))


def dots(table: pd.DataFrame, x: str, y: str, group: str, x_title: str, spread: Ends) -> alt.FacetChart:
    """One dot a row on a logarithmic axis with its spread as a line; one panel a group, below each other."""
    columns = [x, y, group, *spread]
    base = alt.Chart(table[columns]).encode(
        y=alt.Y(f"{y}:N", title=None, sort=list(dict.fromkeys(table[y])), axis=alt.Axis(labelLimit=220)),
        tooltip=[_tip(group), _tip(y), *(_tip(column, ".3f") for column in (x, *spread))],
    )
    scale = alt.Scale(type="log")
    dot = base.mark_point(filled=True, size=60, color=OURS).encode(x=alt.X(f"{x}:Q", scale=scale, title=x_title))
    line = base.mark_rule().encode(x=alt.X(f"{spread[0]}:Q", scale=scale, title=x_title), x2=spread[1])
    panel = alt.layer(line, dot).properties(width=_WIDTH - 180)
    facet = panel.facet(row=alt.Row(f"{group}:N", title=None, sort=list(dict.fromkeys(table[group]))))
    return _styled(facet.resolve_scale(y="independent"))


def heat_map(
    cells: pd.DataFrame, x: str, y: str, domain: tuple[float, float] = (0.5, 1), title: str = "detectability"
) -> alt.LayerChart:
    """A matrix of ``value`` with the number in each cell; axes in the order of the rows.

    Colours are over ``domain``, wider where a value lies outside of it. The interval of a cell is in its tooltip.
    """
    ends = [column for column in ("ci_low", "ci_high", "lowest", "highest") if column in cells]
    base = alt.Chart(cells[[x, y, "value", *ends]]).encode(
        x=alt.X(f"{x}:O", sort=list(dict.fromkeys(cells[x])), title=_words(x), axis=alt.Axis(labelAngle=-45)),
        y=alt.Y(f"{y}:O", sort=list(dict.fromkeys(cells[y])), title=_words(y)),
        tooltip=[_tip(x), _tip(y), *(_tip(column, ".3f") for column in ("value", *ends))],
    )
    low, high = min(domain[0], cells.value.min()), max(domain[1], cells.value.max())
    colour = alt.Color("value:Q", scale=alt.Scale(scheme="blues", domain=[low, high]), title=title)
    dark = low + 0.72 * (high - low)
    ink = alt.condition(f"datum.value > {dark:g}", alt.value("white"), alt.value("black"))
    return _sized(
        alt.layer(
            base.mark_rect().encode(color=colour),
            base.mark_text(fontSize=_FONT).encode(text=alt.Text("value:Q", format=".2f"), color=ink),
        )
    )


def pairs(
    table: pd.DataFrame, y: str, before: str, after: str, colour: str, x_title: str, errors: tuple[Ends, Ends]
) -> alt.LayerChart:
    """One line a row from the share ``before`` (a ring) to the share ``after`` (a dot), in the order of the rows.

    :param colour: the column of the group; rows differ in ``y``.
    :param errors: the columns of the intervals of both, drawn as broad pale lines.
    """
    columns = [y, before, after, colour, *errors[0], *errors[1]]
    base = shown(table[columns], colour).encode(
        y=alt.Y(f"{y}:N", sort=list(dict.fromkeys(table[y])), title=None, axis=alt.Axis(labelLimit=200)),
        color=coloured(table, colour),
        tooltip=[_tip(y), _tip(colour), *(_tip(c, ".3f") for c in (before, *errors[0], after, *errors[1]))],
    )
    scale = alt.Scale(domain=[-0.02, 1.02], nice=False)
    start = alt.X(f"{before}:Q", scale=scale, title=x_title, axis=alt.Axis(tickCount=6))
    end = alt.X(f"{after}:Q", scale=scale, title=x_title)
    broad = base.mark_rule(strokeWidth=7, opacity=0.25)
    layers = [
        *(broad.encode(x=alt.X(f"{low}:Q", scale=scale, title=x_title), x2=high) for low, high in errors),
        base.mark_rule().encode(x=start, x2=after),
        base.mark_point(size=70).encode(x=start),
        base.mark_point(filled=True, opacity=1, size=70).encode(x=end),
    ]
    return _sized(alt.layer(*layers).add_params(hidden())).properties(height=20 * table[y].nunique())


def differences(table: pd.DataFrame) -> alt.LayerChart:
    """One line a ``figure`` with its ``difference`` and the interval ``low`` to ``high``, in the order of the rows.

    The name of a figure stands above its line, in a row of its own.
    """
    table = table[["figure", "difference", "low", "high"]]
    order = [(figure, part) for figure in dict.fromkeys(table.figure) for part in ("name", "bar")]
    rows = pd.DataFrame({"figure": [figure for figure, _ in order], "row": range(len(order))})
    names, bars = rows.iloc[::2], table.merge(rows.iloc[1::2], on="figure")
    hover = [_tip("figure"), *(_tip(column, "+.3f") for column in ("difference", "low", "high"))]
    y = alt.Y("row:O", title=None, axis=None, scale=alt.Scale(domain=list(range(len(order))), padding=0.1))
    low, high = min(0, table.low.min()), max(0, table.high.max())
    scale = alt.Scale(domain=[low, high], nice=True)
    zero = alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule(strokeDash=[4, 4], color=_GREY).encode(x="zero:Q")
    base = alt.Chart(bars).encode(y=y, tooltip=hover)
    across = alt.X("low:Q", title="difference", scale=scale)
    interval = base.mark_rule(strokeWidth=3, color=OURS).encode(x=across, x2="high:Q")
    points = base.mark_point(filled=True, opacity=1, size=80, color=OURS).encode(x=alt.X("difference:Q", scale=scale))
    text = alt.Chart(names).mark_text(align="left", baseline="middle", fontSize=_FONT, limit=alt.expr("width - 8"))
    return _sized(alt.layer(zero, interval, points, text.encode(y=y, x=alt.value(4), text="figure:N"))).properties(
        height=20 * len(order)
    )


def shown(table: pd.DataFrame, group: str) -> alt.Chart:
    """A chart of the rows whose group is not in ``hidden``; one of its layers must hold that parameter."""
    return alt.Chart(table).transform_filter(f"indexof(hidden, datum[{json.dumps(group)}]) < 0")


def hidden() -> alt.Parameter:
    """The groups that the reader of the page has switched off."""
    return alt.param(name="hidden", value=[])


def coloured(table: pd.DataFrame, column: str) -> alt.Color:
    """Colours by a fixed domain: a group keeps its own when others are switched off."""
    return alt.Color(column, title=_words(column), scale=alt.Scale(domain=_groups(table[column]), range=COLOURS))


def _groups(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _domain(shares: pd.DataFrame, low: float) -> list[float]:
    """An axis of shares from a lower end to 1 that holds every value whole: marks and intervals are not cut."""
    values = shares.to_numpy(float)
    least, most = np.nanmin(values, initial=low + 0.02), np.nanmax(values, initial=1)
    lower = low if least >= low else np.floor(10 * least) / 10
    return [round(float(lower), 2), round(max(1.02 if low else 1.0, float(most)), 3)]


def _tip(column: str, form: str = "") -> alt.Tooltip:
    """A line of a tooltip, in words."""
    known = {"ci_low": "95 % interval from", "ci_high": "95 % interval to"}
    options: dict[str, Any] = {"format": form} if form else {}
    return alt.Tooltip(column, title=known.get(column, _words(column)), **options)


def _sized(chart: Any) -> Any:
    return _styled(chart.properties(width=_WIDTH, height=_HEIGHT))


def _styled(chart: Any) -> Any:
    return (
        chart.configure_view(strokeOpacity=0)
        .configure_axis(labelFontSize=_FONT, titleFontSize=_FONT)
        .configure_header(labelFontSize=_FONT)
        .configure_legend(symbolOpacity=1, labelFontSize=_FONT, titleFontSize=_FONT)
    )


def _words(column: str) -> str:
    return column.replace("_", " ")
