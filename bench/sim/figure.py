"""The grid as a figure: one small plot per trace, hit ratio over the size of the cache."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.sim.players import BELADY, LRU, OTHERS

if TYPE_CHECKING:
    from bench.sim.grid import Grid

__all__ = ["draw"]

_COLUMNS = 3
_STYLES: dict[str, dict[str, Any]] = {
    "adaptive": {"color": "#d1123f", "lw": 2.6, "zorder": 9},
    "s3fifo": {"color": "#1f6fb4", "lw": 1.5, "zorder": 7},
    "lru": {"color": "#222222", "lw": 1.5, "zorder": 6},
    "sieve": {"color": "#2a9d5c", "lw": 1.1},
    "lfu": {"color": "#c77d12", "lw": 1.1},
    "fifo": {"color": "#8d6bb8", "lw": 1.1},
    "random": {"color": "#a0a0a0", "lw": 1.1},
    "libCacheSim ARC": {"color": "#12a3a8", "lw": 1.1, "ls": "--"},
    "libCacheSim W-TinyLFU": {"color": "#d46bb0", "lw": 1.1, "ls": "--"},
    BELADY: {"color": "#777777", "lw": 1.3, "ls": ":"},
}
_HIDDEN = {LRU, "libCacheSim LRU", "libCacheSim S3-FIFO"}  # they lie on lines that are drawn


def draw(grid: "Grid", path: Path) -> None:
    """Draw the grid into a PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(pair.trace for pair in grid.pairs))
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(4.1 * columns, 3.0 * rows + 1.1),
        squeeze=False,
        layout="constrained",
    )
    for axis, name in zip(axes.flat, names, strict=False):
        _plot(axis, grid, name)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _plot(axis: Any, grid: "Grid", name: str) -> None:
    pairs = [pair for pair in grid.pairs if pair.trace == name]
    sizes = [pair.percent for pair in pairs]
    shown = [player for player in grid.players if player not in _HIDDEN]
    if "lru" not in shown:
        shown.append(LRU)
    for player in shown:
        points = [
            100 * pair.ratios[player] if pair.counts(player) else float("nan") for pair in pairs
        ]
        style = _STYLES.get(player, _STYLES["lru"] if player == LRU else {"lw": 1.0})
        label = OTHERS.get(player, player)
        axis.plot(sizes, points, marker="o", ms=3, label=label, **style)
    axis.set_xscale("log")
    axis.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axis.minorticks_off()
    axis.set_title(f"{name} ({pairs[0].requests:,} requests)", fontsize=9)
    axis.set_xlabel("cache size, % of distinct keys", fontsize=8)
    axis.set_ylabel("hit ratio, %", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25, lw=0.6)
    axis.spines[["top", "right"]].set_visible(False)
