"""Charts as SVG in the page's colours: moments over time, training curves, and a confusion matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vtag.app.ui.html_parts import escape, note

# sizes in units of the drawing
_WIDTH, _HEIGHT = 720, 190
_CURVE_WIDTH = 400  # two charts fit side by side
_LEFT, _TOP, _BOTTOM = 46, 10, 26  # margins for the numbers and names of the axes
_NAME_WIDTH = 120  # of a period's name in the large type for phones
_MAX_COLUMN_WIDTH = 60
_MAX_PERIOD_NAMES = 9  # more names would overlap


def moments_over_time(rows: Sequence[tuple[str, str, int]]) -> str:
    """Stacked columns: the number of moments of the commonest labels, by when their videos were recorded.

    Args:
        rows: period, label and number of moments.
    """
    if not rows:
        return note("There are no moments yet, or no video says when it was recorded.")
    periods = sorted({period for period, _, _ in rows})
    totals: dict[str, int] = {}
    for _, label, number in rows:
        totals[label] = totals.get(label, 0) + number
    labels = sorted(totals, key=lambda label: (label == "other", -totals[label], label))
    numbers = {(period, label): number for period, label, number in rows}
    columns = [[numbers.get((period, label), 0) for label in labels] for period in periods]
    largest = max(map(sum, columns))
    bars = "".join(
        _column(i, period, dict(zip(labels, columns[i], strict=True)), largest, len(periods))
        for i, period in enumerate(periods)
    )
    axis = "".join(
        _grid_line(share, f"{largest * share:,.0f}", _WIDTH)
        for share in ((0, 1) if largest % 2 else (0, 0.5, 1))
    )
    legend = _legend(f"{label} ({totals[label]:,})" for label in labels)
    return (
        f'<figure class="vtag-chart vtag-over-time"><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="Moments over time">{axis}{bars}{_period_names(periods)}</svg>{legend}</figure>'
    )


def _column(i: int, period: str, numbers: Mapping[str, int], largest: int, column_count: int) -> str:
    """The i-th column: a bar for each label, the first label at the bottom."""
    step = (_WIDTH - _LEFT) / column_count
    bars, y = "", float(_HEIGHT - _BOTTOM)
    for color, (label, number) in enumerate(numbers.items()):
        height = number / largest * (_HEIGHT - _TOP - _BOTTOM)
        y -= height
        if number:
            bars += (
                f'<rect class="vtag-fill{color}" x="{_LEFT + (i + 0.1) * step:.1f}" y="{y:.1f}" '
                f'width="{min(0.8 * step, _MAX_COLUMN_WIDTH):.1f}" height="{max(height - 1, 0.5):.1f}">'
                f"<title>{escape(period)}: {escape(label)} {number:,}</title></rect>"
            )
    return bars


def _period_names(periods: Sequence[str]) -> str:
    """Names below the columns. Every second one has a class by which phones hide it."""
    step = (_WIDTH - _LEFT) / len(periods)
    interval = -(-len(periods) // _MAX_PERIOD_NAMES)
    names = ""
    for k, i in enumerate(range(0, len(periods), interval)):
        x = _LEFT + (i + 0.1) * step
        anchor = f'x="{x:.1f}"' if x < _WIDTH - _NAME_WIDTH else f'x="{_WIDTH}" text-anchor="end"'
        css_class = ' class="vtag-second"' if k % 2 else ""
        names += f'<text{css_class} {anchor} y="{_HEIGHT - 8}">{escape(periods[i])}</text>'
    return names


def _grid_line(share: float, name: str, width: int) -> str:
    """A horizontal line at `share` of the height, with its number."""
    y = _y(share)
    return (
        f'<line x1="{_LEFT}" x2="{width}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text text-anchor="end" x="{_LEFT - 6}" y="{y + 4:.1f}">{name}</text>'
    )


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _legend(names: Iterable[str]) -> str:
    items = "".join(
        f'<li><span class="vtag-swatch vtag-fill{color}"></span>{escape(name)}</li>'
        for color, name in enumerate(names)
    )
    return f'<ul class="vtag-legend">{items}</ul>'


def line_chart(name: str, lines: Mapping[str, Sequence[float]], top: float | None = None) -> str:
    """Lines over epochs, each with its last value in the legend.

    Args:
        top: the upper end of the axis; None for the largest value.
    """
    epochs = max(map(len, lines.values()), default=0)
    if not epochs:
        return note(f"{name}: there are no values yet.")
    lines = {line: values for line, values in lines.items() if values}
    top = top or max(map(max, lines.values())) or 1.0
    curves = "".join(_line(color, values, top, epochs) for color, values in enumerate(lines.values()))
    axis = "".join(_grid_line(share, f"{top * share:.2f}", _CURVE_WIDTH) for share in (0, 0.5, 1))
    axis += f'<text x="{_LEFT}" y="{_HEIGHT - 8}">epoch 1</text>'
    if epochs > 1:
        axis += f'<text text-anchor="end" x="{_CURVE_WIDTH - 10}" y="{_HEIGHT - 8}">epoch {epochs}</text>'
    legend = _legend(f"{line}: {values[-1]:.3f}" for line, values in lines.items())
    return (
        f'<figure class="vtag-chart"><figcaption>{escape(name)}</figcaption>'
        f'<svg viewBox="0 0 {_CURVE_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(name)}">{axis}{curves}</svg>'
        f"{legend}</figure>"
    )


def _line(color: int, values: Sequence[float], top: float, epochs: int) -> str:
    """A line through `values`; a single value is a dot, too."""
    step = (_CURVE_WIDTH - _LEFT - 10) / max(1, epochs - 1)
    heights = [_y(min(1.0, value / top)) for value in values]
    points = " ".join(f"{_LEFT + i * step:.1f},{y:.1f}" for i, y in enumerate(heights))
    line = f'<polyline class="vtag-line{color}" points="{points}"/>'
    if len(values) == 1:
        line += f'<circle class="vtag-fill{color}" cx="{_LEFT}" cy="{heights[0]:.1f}" r="4"/>'
    return line


def confusion_matrix(labels: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    """A row for each true label, a column for each predicted one; the darker, the larger the share of the row."""
    head = "".join(f'<th scope="col"><span>{escape(label)}</span></th>' for label in labels)
    rows = ""
    for label, row in zip(labels, matrix, strict=True):
        total = sum(row) or 1
        cells = "".join(
            f'<td style="--share:{100 * n / total:.0f}%" title="{escape(label)} predicted as {escape(predicted)}: '
            f'{n}">{n or ""}</td>'
            for predicted, n in zip(labels, row, strict=True)
        )
        rows += f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>'
    return (
        '<div class="vtag-scroll" tabindex="0" role="region" aria-label="Confusion matrix">'
        '<table class="vtag-confusion">'
        "<caption>Rows: what it was. Columns: what the model said.</caption>"
        f"<tr><td></td>{head}</tr>{rows}</table></div>"
    )
