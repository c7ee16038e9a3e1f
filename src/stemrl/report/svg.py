"""Line charts as SVG text: small enough to read, with hover titles, and coloured by the page.

Nothing is drawn with a library, so a report is one file of a few hundred kilobytes that needs no
network. Colours are CSS classes (`s0`, `s1`, …; see `assets/report.css`), so that one chart serves
light and dark pages alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 290
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 44


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    """The interval around `y`, drawn as a band (a bar where there is one point)."""
    high: Sequence[float] | None = None
    style: int = 0
    """Colour, dash and marker: the index of the CSS class."""
    line: bool = True
    """Join the points; without, a scatter of markers."""
    markers: bool = True


def chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    description: str,
    *,
    x_zero: bool = False,
    x_whole: bool = False,
) -> str:
    """Return the series in one pair of axes, as an `<svg>` element.

    **Arguments:**

    - `description`: what a reader who cannot see the chart should know.
    - `x_zero`: begin the horizontal axis at zero.
    - `x_whole`: mark whole numbers alone on the horizontal axis, of what is counted.

    Points that are not finite are left out.
    """
    shown = [_finite(one) for one in series]
    xs = [x for one in shown for x in one.x]
    ys = [
        v
        for one in shown
        for v in (*one.y, *(one.low or ()), *(one.high or ()))
        if math.isfinite(v)
    ]
    if not xs:
        return f'<p class="none">Nothing to draw: {escape(description)}</p>'
    x_low, x_high, x_ticks = _axis(min(xs), max(xs), 5, zero=x_zero, tight=True, whole=x_whole)
    y_low, y_high, y_ticks = _axis(min(ys), max(ys), 5)

    def px(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def py(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' xmlns="http://www.w3.org/2000/svg" aria-label="{escape(description)}">'
    ]
    for tick in y_ticks:
        y = py(tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">'
            f"{short(tick)}</text>"
        )
    for tick in x_ticks:
        x = px(tick)
        parts.append(
            f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{HEIGHT - BOTTOM}"'
            f' y2="{HEIGHT - BOTTOM + 4}"/>'
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">'
            f"{short(tick)}</text>"
        )
    parts.append(
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}"'
        f' y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="label" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}"'
        f' text-anchor="middle">{escape(x_label)}</text>'
        f'<text class="label" transform="translate(10 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"'
        f' text-anchor="middle">{escape(y_label)}</text>'
    )
    parts.extend(_band(one, px, py) for one in shown)
    parts.extend(_line(one, px, py, x_label) for one in shown)
    return "".join(parts) + "</svg>"


def legend(series: Sequence[Series]) -> str:
    """Return the names of the series beside a sample of each, as HTML."""
    items = "".join(
        '<li><svg class="swatch" viewBox="0 0 30 12" aria-hidden="true">'
        + (f'<path class="line s{one.style}" d="M1 6H29"/>' if one.line else "")
        + (_marker(one.style, 15, 6, "") if one.markers else "")
        + f"</svg>{escape(one.label)}</li>"
        for one in series
    )
    return f'<ul class="legend">{items}</ul>'


def short(value: float) -> str:
    """Return a number as an axis shows it: `1.5M`, `20k`, `−0.25`."""
    size = abs(value)
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            scale = 1e3 if suffix == "k" else limit
            return f"{value / scale:.4g}{suffix}".replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


def number(value: float | None) -> str:
    """Return a number as text and tables show it: three significant digits at least, no exponent."""
    if value is None or not math.isfinite(value):
        return "–"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2
    return f"{value:,.{digits}f}".replace("-", "−")


def _finite(one: Series) -> Series:
    keep = [i for i, (x, y) in enumerate(zip(one.x, one.y, strict=True)) if _ok(x) and _ok(y)]

    def pick(values: Sequence[float] | None) -> list[float] | None:
        return None if values is None else [float(values[i]) for i in keep]

    x, y = pick(one.x) or [], pick(one.y) or []
    return Series(one.label, x, y, pick(one.low), pick(one.high), one.style, one.line, one.markers)


def _ok(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _axis(
    low: float,
    high: float,
    count: int,
    *,
    zero: bool = False,
    tight: bool = False,
    whole: bool = False,
) -> tuple[float, float, list[float]]:
    """Ends of an axis and about `count` round ticks in it. `tight` keeps the data's own ends."""
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-9 * max(1.0, abs(high)):
        pad = max(abs(high) * 0.1, 0.5)
        low, high = low - pad, high + pad
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    if whole:
        step = max(1.0, math.ceil(step - 1e-9))
    if tight:
        pad = 0.0 if zero else 0.02 * (high - low)
        low, high = low - pad, high + 0.02 * (high - low)
    else:
        low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    first = math.ceil(low / step - 1e-9)
    ticks = [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]
    return low, high, ticks


def _band(one: Series, px, py) -> str:
    if not one.low or not one.high:
        return ""
    if len(one.x) == 1 or not one.line:
        return "".join(
            f'<line class="whisker s{one.style}" x1="{px(x):.1f}" x2="{px(x):.1f}"'
            f' y1="{py(low):.1f}" y2="{py(high):.1f}"/>'
            for x, low, high in zip(one.x, one.low, one.high, strict=True)
        )
    upper = [f"{px(x):.1f},{py(v):.1f}" for x, v in zip(one.x, one.high, strict=True)]
    lower = [f"{px(x):.1f},{py(v):.1f}" for x, v in zip(one.x, one.low, strict=True)]
    return f'<polygon class="band s{one.style}" points="{" ".join(upper + lower[::-1])}"/>'


def _line(one: Series, px, py, x_label: str) -> str:
    points = [(px(x), py(y)) for x, y in zip(one.x, one.y, strict=True)]
    text = ""
    if one.line and len(points) > 1:
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        text += f'<path class="line s{one.style}" d="{path}"/>'
    for i, (x, y) in enumerate(points):
        interval = f" [{number(one.low[i])}, {number(one.high[i])}]" if one.low and one.high else ""
        title = f"{one.label}: {number(one.y[i])}{interval} at {short(one.x[i])} {x_label.lower()}"
        if one.markers:
            text += _marker(one.style, x, y, title)
        else:
            text += (
                f'<circle class="hover" cx="{x:.1f}" cy="{y:.1f}" r="6">{_title(title)}</circle>'
            )
    return text


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""


def _marker(style: int, x: float, y: float, title: str) -> str:
    """A disc, square, triangle or diamond: series differ in more than colour."""
    kind = f'class="marker s{style}"'
    if style % 4 == 0:
        return f'<circle {kind} cx="{x:.1f}" cy="{y:.1f}" r="3.5">{_title(title)}</circle>'
    if style % 4 == 1:
        return (
            f'<rect {kind} x="{x - 3.2:.1f}" y="{y - 3.2:.1f}" width="6.4" height="6.4">'
            f"{_title(title)}</rect>"
        )
    shape = (
        ((0, -4.5), (4.2, 3), (-4.2, 3))
        if style % 4 == 2
        else ((0, -4.6), (4.6, 0), (0, 4.6), (-4.6, 0))
    )
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in shape)
    return f'<polygon {kind} points="{points}">{_title(title)}</polygon>'
