"""The picture of P8: the time of each shape against the number of cases, both by powers of ten."""

import math
from collections.abc import Mapping
from html import escape
from pathlib import Path

PICTURE = Path(__file__).parent / "p8_worklist.svg"

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, LEGEND = 1100, 640, 70, 50, 40, 330
LEAST_MS, MOST_MS = 1.0, 1000.0
_COLOURS = ("#1b6ca8", "#c0392b", "#27864b", "#8e44ad", "#b9770e", "#117a8b", "#7f8c8d", "#d35400")
_DASHES = ("", "6 3", "2 3", "9 3 2 3")

DRAWN = (
    "no filter, one",
    "no filter, fifty",
    "no filter, all",
    "late page, fifty",
    "patient name up, fifty",
    "patient name up, shown",
    "filter assigned",
    "filter in-work",
    "filter referrer-contains",
    "filter children",
    "filter research",
    "filter calling",
    "filter history-of-assigned",
    "filter history-of-mr",
    "filter history-of-few",
    "search smith, fifty",
    "search smith ct chest a month, all",
    "search a day, fifty",
    "unread, received, all",
    "unread, none, received, all",
    "count, all",
    "count, children",
)
"""One of each kind; the table on the console has all."""


def draw(told: Mapping[int, Mapping[str, float]], path: Path = PICTURE) -> None:
    """Draws milliseconds over gRPC (medians) by number of cases and shape."""
    sizes = sorted(told)
    low, high = math.log10(sizes[0]), math.log10(sizes[-1])
    right = WIDTH - LEGEND

    def x(cases: int) -> float:
        share = (math.log10(cases) - low) / (high - low) if high > low else 0.5
        return LEFT + share * (right - LEFT)

    def y(took: float) -> float:
        share = math.log10(min(max(took, LEAST_MS), MOST_MS)) / math.log10(MOST_MS)
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">P8: a page of a worklist over gRPC, median in ms,'
        " by number of cases</text>",
    ]
    for took in (1, 3, 10, 30, 100, 300, 1000):
        colour = "#c0392b" if took == 30 else "#dddddd"
        parts.append(
            f'<line x1="{LEFT}" x2="{right}" y1="{y(took):.1f}" y2="{y(took):.1f}" stroke="{colour}"/>'
            f'<text x="{LEFT - 8}" y="{y(took) + 4:.1f}" text-anchor="end">{took}</text>'
        )
    parts += [
        f'<text x="{x(cases):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{cases:,}</text>'
        for cases in sizes
    ]
    for number, name in enumerate(DRAWN):
        points = [(x(cases), y(told[cases][name])) for cases in sizes if name in told[cases]]
        dashes, hue = divmod(number, len(_COLOURS))
        style = f'stroke="{_COLOURS[hue]}" stroke-dasharray="{_DASHES[dashes]}"'
        line = " ".join(f"{left:.1f},{top:.1f}" for left, top in points)
        top = TOP + 22 * number
        parts.append(
            f'<polyline points="{line}" fill="none" stroke-width="1.6" {style}/>'
            f'<line x1="{right + 20}" x2="{right + 50}" y1="{top}" y2="{top}" stroke-width="1.6" {style}/>'
            f'<text x="{right + 58}" y="{top + 4}">{escape(name)}</text>'
        )
    path.write_text("\n".join([*parts, "</svg>", ""]))
