"""Plots as SVG that follow the page's colours: labels over time, a training's curves, a confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vtag.app.ui.html_parts import note, text

_WIDE, _HIGH = 720, 190  # units of the drawing
_CURVE_WIDE = 400  # two stand beside each other
_LEFT, _TOP, _BOTTOM = 46, 10, 26
_NAME_WIDE = 120  # of a period, as large as it is written on a phone
_MOST_NAMED = 9  # periods below the columns: more would run into each other


def over_time(counted: Sequence[tuple[str, str, int]]) -> str:
    """Stacked columns: moments of the commonest labels by when their videos were recorded (period, label, number)."""
    if not counted:
        return note("No video says when it was recorded, or no moment was found yet.")
    periods = sorted({period for period, _, _ in counted})
    totals: dict[str, int] = {}
    for _, label, number in counted:
        totals[label] = totals.get(label, 0) + number
    labels = sorted(totals, key=lambda label: (label == "other", -totals[label], label))
    number_of = {(period, label): number for period, label, number in counted}
    most = max(sum(number_of.get((period, label), 0) for label in labels) for period in periods)
    step = (_WIDE - _LEFT) / len(periods)
    named_every = -(-len(periods) // _MOST_NAMED)
    drawn = ""
    for i, period in enumerate(periods):
        y = float(_HIGH - _BOTTOM)
        for k, label in enumerate(labels):
            number = number_of.get((period, label), 0)
            high = number / most * (_HIGH - _TOP - _BOTTOM)
            y -= high
            if number:
                drawn += (
                    f'<rect class="vtag-fill{k}" x="{_LEFT + (i + 0.1) * step:.1f}" y="{y:.1f}" '
                    f'width="{min(0.8 * step, 60):.1f}" height="{max(high - 1, 0.5):.1f}">'
                    f"<title>{text(period)}: {text(label)} {number:,}</title></rect>"
                )
        if i % named_every == 0:
            x = _LEFT + (i + 0.1) * step
            place = f'x="{x:.1f}"' if x < _WIDE - _NAME_WIDE else f'x="{_WIDE}" text-anchor="end"'
            odd = ' class="vtag-second"' if i // named_every % 2 else ""
            drawn += f'<text{odd} {place} y="{_HIGH - 8}">{text(period)}</text>'
    axis = "".join(
        f'<line x1="{_LEFT}" x2="{_WIDE}" y1="{_at(share):.1f}" y2="{_at(share):.1f}"/>'
        f'<text text-anchor="end" x="{_LEFT - 6}" y="{_at(share) + 4:.1f}">{most * share:,.0f}</text>'
        for share in ((0, 1) if most % 2 else (0, 0.5, 1))
    )
    legend = "".join(
        f'<li><span class="vtag-swatch vtag-fill{k}"></span>{text(label)} ({totals[label]:,})</li>'
        for k, label in enumerate(labels)
    )
    return (
        f'<figure class="vtag-chart vtag-over-time"><svg viewBox="0 0 {_WIDE} {_HIGH}" role="img" '
        f'aria-label="Moments over time">'
        f'{axis}{drawn}</svg><ul class="vtag-legend">{legend}</ul></figure>'
    )


def _at(share: float) -> float:
    return _HIGH - _BOTTOM - share * (_HIGH - _TOP - _BOTTOM)


def curves(name: str, lines: Mapping[str, Sequence[float]], most: float | None = None) -> str:
    """Lines over epochs, each with its last value in words."""
    longest = max(map(len, lines.values()), default=0)
    if not longest:
        return note(f"{name}: nothing was measured yet.")
    top = most or max(max(values, default=0.0) for values in lines.values()) or 1.0
    step = (_CURVE_WIDE - _LEFT - 10) / max(1, longest - 1)
    drawn = ""
    for k, values in enumerate(lines.values()):
        points = " ".join(
            f"{_LEFT + i * step:.1f},{_at(min(1.0, v / top)):.1f}" for i, v in enumerate(values)
        )
        drawn += f'<polyline class="vtag-line{k}" points="{points}"/>'
        if len(values) == 1:
            drawn += (
                f'<circle class="vtag-fill{k}" cx="{_LEFT}" cy="{_at(min(1.0, values[0] / top)):.1f}" r="4"/>'
            )
    axis = "".join(
        f'<line x1="{_LEFT}" x2="{_CURVE_WIDE}" y1="{_at(s):.1f}" y2="{_at(s):.1f}"/>'
        f'<text text-anchor="end" x="{_LEFT - 6}" y="{_at(s) + 4:.1f}">{top * s:.2f}</text>'
        for s in (0, 0.5, 1)
    )
    axis += f'<text x="{_LEFT}" y="{_HIGH - 8}">epoch 1</text>'
    if longest > 1:
        axis += f'<text text-anchor="end" x="{_CURVE_WIDE - 10}" y="{_HIGH - 8}">epoch {longest}</text>'
    legend = "".join(
        f'<li><span class="vtag-swatch vtag-fill{k}"></span>{text(line)}: {values[-1]:.3f}</li>'
        for k, (line, values) in enumerate(lines.items())
        if values
    )
    return (
        f'<figure class="vtag-chart"><figcaption>{text(name)}</figcaption>'
        f'<svg viewBox="0 0 {_CURVE_WIDE} {_HIGH}" role="img" aria-label="{text(name)}">{axis}{drawn}</svg>'
        f'<ul class="vtag-legend">{legend}</ul></figure>'
    )


def confusion(labels: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    """Rows are what it was, columns what was said; the darker, the more of the row."""
    head = "".join(f'<th scope="col"><span>{text(label)}</span></th>' for label in labels)
    rows = ""
    for label, row in zip(labels, matrix, strict=True):
        total = sum(row) or 1
        cells = "".join(
            f'<td style="--share:{100 * n / total:.0f}%" title="{text(label)} said to be {text(other)}: {n}">'
            f"{n or ''}</td>"
            for other, n in zip(labels, row, strict=True)
        )
        rows += f'<tr><th scope="row">{text(label)}</th>{cells}</tr>'
    return (
        '<div class="vtag-scroll" tabindex="0" role="region" aria-label="Confusion matrix">'
        '<table class="vtag-confusion">'
        f"<caption>Rows: what it was. Columns: what was said.</caption><tr><td></td>{head}</tr>{rows}</table></div>"
    )
