"""Draw ``docs/pictures/peers.svg`` from ``bench/results/peers.json``; ``--check`` only compares."""
# ruff: noqa: INP001, T201  a script

import json
import math
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "bench" / "results" / "peers.json"
TARGET = ROOT / "docs" / "pictures" / "peers.svg"
STYLE = ROOT / "docs" / "pictures" / "outage.svg"  # pictures share one

SVG = "http://www.w3.org/2000/svg"
HEADING = "Warm batch of 2,000 texts, 384-d: µs per text (logarithmic)"
ROW, LEFT, WIDTH, TOP = 26, 210, 560, 34


def drawn() -> str:
    """Return the picture: one bar a cache, logarithmic, quickest first."""
    rows = [row[:2] for row in json.loads(SOURCE.read_text("utf-8"))["tables"][0]["rows"]]
    rows = sorted((row for row in rows if not row[0].startswith("limit")), key=lambda row: row[1])
    low, high = math.log10(0.1), math.log10(1000)
    height = TOP + ROW * len(rows) + 40
    style = re.search(r"<style>.*?</style>", STYLE.read_text("utf-8"), re.DOTALL)
    assert style is not None, "the first picture has a style"
    parts = [
        f'<svg xmlns="{SVG}" viewBox="0 0 800 {height}" font-size="13" role="img">',
        "<title>Microseconds per text of a warm batch of 2,000, by cache</title>",
        style[0],
        f'<text class="ink" x="10" y="20" font-weight="bold">{HEADING}</text>',
    ]
    for power in range(-1, 4):
        x = LEFT + (power - low) / (high - low) * WIDTH
        parts.append(f'<path class="line" opacity=".4" d="M{x:.0f} {TOP}V{height - 34}"/>')
        parts.append(
            f'<text class="soft" x="{x:.0f}" y="{height - 16}" text-anchor="middle">'
            f"{10.0**power:g}</text>"
        )
    for number, (name, value) in enumerate(rows):
        y = TOP + ROW * number
        width = (math.log10(value) - low) / (high - low) * WIDTH
        kind = "near" if name.startswith("nearcache") else "peer"
        parts.append(
            f'<text class="ink" x="{LEFT - 10}" y="{y + 17}" text-anchor="end">{name}</text>'
            f'<rect class="{kind}" x="{LEFT}" y="{y + 4}" width="{width:.0f}" height="18" rx="3"/>'
            f'<text class="ink" x="{LEFT + width + 6:.0f}" y="{y + 17}">{value:.3g}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    if "--check" in sys.argv:
        if TARGET.read_text("utf-8") != drawn():
            sys.exit(f"{TARGET} is not what {SOURCE} says: python tools/pictures.py")
    else:
        TARGET.write_text(drawn(), "utf-8")
        print(TARGET)
