"""Kill writers of SQLite files, many times, and damage such files in many ways."""

import sqlite3
import tempfile
from collections import Counter
from pathlib import Path

from bench.machine import log
from bench.report import Judged, Report, Table
from bench.soak.long import LongReport
from soak.damage import ENDS, damage, make_file
from soak.kills import kill_writers

__all__ = ["run"]

_WRITERS = 4
_FILES = 5


def run(*, kills: int, damages: int, quick: bool) -> Report:
    """Kill so many writers, over several new files; damage so many copies of files."""
    report = LongReport("sqlite-kills", "SQLite: killed writers, damaged files", quick)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        _kill(report, Path(folder), kills)
        _damage(report, Path(folder), damages)
    report.notes.append(
        "Four processes put and forget values of 3 KB in one file, in keys of their own, and say "
        "before and after each what they do; SIGKILL comes at random moments, to one or to all "
        "at once. Then another process opens the file and compares. Damage is random bytes, "
        "pages, zeros or a cut, anywhere in the file, its log or the log's index."
    )
    return report


def _kill(report: Report, folder: Path, kills: int) -> None:
    table = Table(
        f"kill -9 of {_WRITERS} writers",
        ("file", "kills", "all at once", "acknowledged", "checked", "opened", "lost or wrong"),
    )
    total: Counter[str] = Counter()
    for number in range(_FILES):
        log(f"sqlite-kills: file {number}")
        path = folder / f"{number}.db"
        found = kill_writers(path, -(-kills // _FILES), writers=_WRITERS, seed=number)
        for fault in found.faults:
            log(fault)
        with sqlite3.connect(path) as db:
            whole = db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        db.close()
        table.rows.append(
            (number, found.kills, found.together, found.done, found.checked, found.openings,
             len(found.faults))
        )  # fmt: skip
        total += Counter(
            kills=found.kills, opened=found.openings, faults=len(found.faults), broken=not whole
        )
    report.tables.append(table)
    report.judged += [
        Judged("writers killed", 200, total["kills"], "", at_least=True),
        Judged("acknowledged values lost, or wrong", 0, total["faults"], ""),
        Judged("did not open", 0, total["kills"] - total["opened"], ""),
        Judged("files that are not whole", 0, total["broken"], ""),
    ]


def _damage(report: Report, folder: Path, damages: int) -> None:
    table = Table(
        "Damaged files",
        ("made by a process that", "damaged", "moved aside", "values found", "wrong", "back",
         "useless afterwards"),
    )  # fmt: skip
    wrong = 0
    for number, end in enumerate(ENDS):
        log(f"sqlite-kills: damage, {end}")
        (folder / f"made-{number}").mkdir()
        made = folder / f"made-{number}" / "x.db"
        make_file(made, end)
        counts, faults = damage(made, folder / f"copies-{number}", range(damages // len(ENDS)))
        for fault in faults:
            log(fault)
        names = ("damaged", "moved aside", "found", "wrong", "back", "useless")
        table.rows.append((end, *(counts[name] for name in names)))
        wrong += counts["wrong"] + counts["back"]
    report.tables.append(table)
    report.judged.append(Judged("wrong or forgotten values from a damaged file", 0, wrong, ""))
