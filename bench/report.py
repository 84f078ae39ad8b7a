"""Results: a table for people, the same figures as JSON, and one summary of what is judged."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.data import source
from bench.machine import describe
from bench.machine import versions as installed
from bench.timing import Timing

__all__ = ["Judged", "Report", "Table", "summary"]


@dataclass(frozen=True, slots=True)
class Judged:
    """One goal: ``reached`` must be at most (or at least) ``target``."""

    what: str
    target: float
    reached: float
    unit: str = "×"
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the goal is reached in this run."""
        return self.reached >= self.target if self.at_least else self.reached <= self.target


@dataclass(slots=True)
class Table:
    """Rows of cells under a title."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[Any]] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [f"## {self.title}", "", _row(self.columns), _row(["---"] * len(self.columns))]
        return "\n".join([*lines, *(_row(map(_cell, row)) for row in self.rows)])


@dataclass(slots=True)
class Report:
    """What one benchmark found."""

    name: str
    title: str
    quick: bool = False
    tables: list[Table] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    texts: str = field(default_factory=source)
    machine: str = field(default_factory=describe)
    versions: Mapping[str, str] = field(default_factory=installed)

    @property
    def command(self) -> str:
        """The command that makes these figures again."""
        return f'make bench BENCH="--only {self.name}{" --quick" if self.quick else ""}"'

    def document(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        found = asdict(self)
        found["judged"] = [asdict(goal) | {"met": goal.met} for goal in self.judged]
        return found | {"command": self.command}

    def markdown(self) -> str:
        """Return everything as Markdown."""
        parts = [f"# {self.title}", *(table.markdown() for table in self.tables)]
        if self.judged:
            parts.append(_judged_table("Judged", self.judged).markdown())
        parts.extend(self.notes)
        used = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        parts.append(
            f"Texts: {self.texts}.\\\nMachine: {self.machine}.\\\nVersions: {used}.\\\n"
            f"Again: `{self.command}`"
        )
        return "\n\n".join(parts) + "\n"

    def write(self, folder: Path) -> None:
        """Write both forms into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.md").write_text(self.markdown(), encoding="utf-8")
        text = json.dumps(self.document(), indent=1, ensure_ascii=False, default=float)
        (folder / f"{self.name}.json").write_text(text + "\n", encoding="utf-8")


def timings(title: str, found: Mapping[str, Timing], size: int, limit: str | None) -> Table:
    """Return a race as a table, slowest last, with the ratio to ``limit`` where there is one."""
    columns = ["", "µs per batch (median)", "best", "p90", "CPU", "µs per text"]
    table = Table(title, columns + (["× limit"] if limit else []))
    for timing in sorted(found.values(), key=lambda timing: timing.median):
        row: list[Any] = [timing.name, timing.median * 1e6, timing.best * 1e6, timing.p90 * 1e6]
        row += [timing.cpu * 1e6, timing.median * 1e6 / size]
        table.rows.append([*row, timing.median / found[limit].median] if limit else row)
    return table


def summary(folder: Path) -> str:
    """Return one table of every goal in the results of ``folder``."""
    parts = ["# What is judged, and what was reached"]
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        goals = [
            Judged(*(goal[key] for key in ("what", "target", "reached", "unit", "at_least")))
            for goal in found.get("judged", ())  # a history has none: it counts, 0 is its goal
        ]
        if goals:
            table = _judged_table(f"[{found['title']}]({found['name']}.md)", goals)
            parts.append(table.markdown())
            parts.append(f"{found['machine']}; `{found['command']}`")
    return "\n\n".join(parts) + "\n"


def _judged_table(title: str, goals: Sequence[Judged]) -> Table:
    table = Table(title, ["goal", "target", "reached", ""])
    for goal in goals:
        sign = "≥" if goal.at_least else "≤"
        target, reached = (f"{_cell(x)} {goal.unit}" for x in (goal.target, goal.reached))
        table.rows.append([goal.what, f"{sign} {target}", reached, "yes" if goal.met else "**no**"])
    return table


def _row(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
