"""What a grid says of each policy, and what is judged of it."""

from collections.abc import Iterator, Sequence
from typing import Any

from bench.near.tiers import best_policy
from bench.report import Judged, Table
from bench.sim.grid import Grid, bare, reference
from bench.sim.players import BELADY, LRU, OTHERS

__all__ = ["judged", "ratios", "standings"]


def ratios(grid: Grid) -> Table:
    """Return every hit ratio, in percent."""
    shown = [player for player in grid.players if player != "libCacheSim LRU"]
    columns = ["hit ratio, %", "size", *(_short(player) for player in shown)]
    table = Table("Hit ratios", columns)
    for pair in grid.pairs:
        cells = [f"{100 * pair.ratios[player]:.2f}" for player in shown]
        table.rows.append([pair.trace, f"{pair.size:,} ({pair.percent:g} %)", *cells])
    return table


def standings(grid: Grid) -> Table:
    """Return each player against LRU, Belady and the best of its rivals."""
    columns = ["", "gap LRU → Belady closed, mean %", "of all gaps together, %"]
    columns.append("worst against LRU, points")
    columns += ["pairs > 0.5 points below LRU", "pairs > 1 point below the best", "worst, points"]
    table = Table(f"Standings over {len(grid.pairs)} pairs of trace and size", columns)
    rivals = _rivals(grid)
    for player in grid.players:
        if player in (LRU, BELADY):
            continue
        pairs = [pair for pair in grid.pairs if pair.counts(player)]
        over = [pair.over_lru(player) for pair in pairs]
        short = [pair.short_of(player, rivals) for pair in pairs]
        row: list[Any] = [_short(player), f"{100 * _closed(grid, player):.1f}"]
        whole = sum(pair.over_lru(BELADY) for pair in pairs)
        row += [f"{100 * sum(over) / whole:.1f}" if whole else "–", f"{min(over):+.2f}"]
        row += [sum(points < -0.5 for points in over), sum(points > 1 for points in short)]
        table.rows.append([*row, f"{max(short):.2f}"])
    table.rows.sort(key=lambda row: -float(row[1]))
    return table


def judged(grid: Grid) -> Iterator[Judged]:
    """Yield the goals of the policy that is to win everywhere, and that LRU is LRU."""
    policy = best_policy()
    if policy in grid.players:
        rivals = _rivals(grid)
        below = max(-pair.over_lru(policy) for pair in grid.pairs)
        short = [pair.short_of(policy, rivals) for pair in grid.pairs]
        near = 100 * sum(points <= 1.0 for points in short) / len(short)
        closed = 100 * _closed(grid, policy)
        yield Judged(f"{policy}: most below LRU", 0.5, max(0.0, below), "points")
        yield Judged(
            f"{policy}: within 1 point of the best fixed policy", 90, near, "% of pairs", True
        )
        yield Judged(f"{policy}: most below the best", 3.0, max(0.0, *short), "points")
        yield Judged(f"{policy}: gap LRU → Belady closed", 30, closed, "%", True)
    if "lru" in grid.players:
        off = max(abs(pair.over_lru("lru")) for pair in grid.pairs)
        yield Judged("lru against exact LRU", 0.0, off, "points")
    known = reference()
    keys = [(bare(pair.trace), pair.requests, pair.size) for pair in grid.pairs]
    both = zip(grid.pairs, keys, strict=True)
    off_by = [100 * abs(pair.ratios[LRU] - known[key]) for pair, key in both if key in known]
    if off_by:
        what = f"exact LRU against {len(off_by)} reference figures"
        yield Judged(what, 0.006, max(off_by), "points")


def _rivals(grid: Grid) -> Sequence[str]:
    others = [player for player in grid.players if player in OTHERS]
    return [LRU, *others] if others else [LRU, *({"s3fifo"} & set(grid.players))]


def _closed(grid: Grid, player: str) -> float:
    shares = [pair.gap_closed(player) for pair in grid.pairs if pair.counts(player)]
    known = [share for share in shares if share is not None]
    return sum(known) / len(known) if known else 0.0


def _short(player: str) -> str:
    return player.replace("libCacheSim", "lcs:")
