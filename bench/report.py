"""Figures over rounds: medians, spreads, bounds; as a table or as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Figure:
    case: str
    what: str
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    by_median: bool = False  # an upper bound is for the median, not for every round
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def bound(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else ""

    @property
    def missed(self) -> bool:
        """A lower bound is for the median, an upper one for every round or for the median too."""
        below = self.at_least is not None and self.median < self.at_least
        highest = self.median if self.by_median else max(self.values)
        above = self.at_most is not None and highest > self.at_most
        return below or above


def short(value: float) -> str:
    """Three digits that count."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def markdown(rows: Sequence[tuple[str, ...]], numbers: tuple[bool, ...]) -> str:
    """A table that reads well as it is; the first row is its head, `numbers` says which columns stand to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(numbers))]

    def line(row: tuple[str, ...]) -> str:
        cells = (cell.rjust(size) if number else cell.ljust(size) for cell, size, number in zip(row, widths, numbers))
        return f"| {' | '.join(cells)} |"

    rule = ("-" * (width + 1) + (":" if number else "-") for width, number in zip(widths, numbers))
    return "\n".join([line(rows[0]), f"|{'|'.join(rule)}|", *map(line, rows[1:])])


class Report:
    def __init__(self) -> None:
        self.figures: dict[tuple[str, str], Figure] = {}
        self.others: list[float] = []  # what other programs used, in cores, a round

    def add(
        self,
        case: str,
        what: str,
        unit: str,
        value: float,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        by_median: bool = False,
    ) -> None:
        figure = self.figures.setdefault((case, what), Figure(case, what, unit, at_least, at_most, by_median))
        figure.values.append(value)
        print(f"  {case}, {what} = {short(value)} {unit}", file=sys.stderr, flush=True)

    def missed(self) -> list[Figure]:
        return [figure for figure in self.figures.values() if figure.missed]

    def table(self, wanted: Callable[[Figure], bool] = lambda _: True) -> str:
        """One figure a line."""
        rows = [("case", "what", "unit", "median", "lowest", "highest", "rounds", "must be")]
        for figure in filter(wanted, self.figures.values()):
            numbers = (short(figure.median), short(min(figure.values)), short(max(figure.values)))
            bound = f"{figure.bound} {'MISSED' if figure.missed else 'met'}" if figure.bound else ""
            rows.append((figure.case, figure.what, figure.unit, *numbers, str(len(figure.values)), bound))
        return markdown(rows, (False, False, False, True, True, True, True, False))

    def matrix(
        self, corner: str, whats: dict[str, str], cases: dict[str, str], marks: dict[tuple[str, str], str] | None = None
    ) -> str:
        """One `what` a line and one case a column, under the names that stand beside them: "median (lowest-highest)",
        and the mark of the cell (by case and what) behind it. Lines and columns without a figure are left out."""

        def cell(case: str, what: str) -> str:
            figure, mark = self.figures.get((case, what)), (marks or {}).get((case, what), "")
            if figure is None:
                return mark or "-"
            spread = f" ({short(min(figure.values))}-{short(max(figure.values))})" if len(figure.values) > 1 else ""
            return f"{short(figure.median)}{spread}{' ' if mark else ''}{mark}"

        units = {figure.case: figure.unit for figure in self.figures.values()}
        shown = {case: name for case, name in cases.items() if case in units}
        heads = (f"{name}, {units[case]}" if units[case] else name for case, name in shown.items())
        measured = {what for case, what in self.figures if case in shown}
        rows = [(name, *(cell(case, what) for case in shown)) for what, name in whats.items() if what in measured]
        return markdown([(corner, *heads), *rows], (False, *(True for _ in shown)))

    def circumstances(self) -> str:
        load = " ".join(f"{value:.2f}" for value in os.getloadavg())
        others = ", ".join(f"{value:.2f}" for value in self.others)
        return f"{machine()}; load average at the end {load}; cores used by other programs, a round: {others}"

    def as_json(self) -> str:
        figures = [
            asdict(figure) | {"median": figure.median, "met": not figure.missed} for figure in self.figures.values()
        ]
        whole = {
            "machine": machine(),
            "load": os.getloadavg(),
            "other_programs": self.others,
            "figures": figures,
        }
        return json.dumps(whole, indent=1)


def machine() -> str:
    models = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return f"{os.cpu_count()} x {models[0] if models else platform.machine()}, Linux {platform.release()}"


class Progress:
    """Where we are, and how long it may still take."""

    def __init__(self, steps: int) -> None:
        self.steps, self.done, self.start = steps, 0, time.monotonic()

    def say(self, what: str) -> None:
        gone = time.monotonic() - self.start
        left = f", about {gone / self.done * (self.steps - self.done) / 60:.0f} min left" if self.done >= 5 else ""
        self.done += 1
        print(f"[{self.done}/{self.steps}, {gone / 60:.0f} min gone{left}] {what}", file=sys.stderr, flush=True)


class OtherPrograms:
    """How much of the machine others use meanwhile: its busy time less that of us and our children.

    Children count once they have been waited for, so ask when all have ended."""

    def __init__(self) -> None:
        self.start, self.busy, self.own = time.monotonic(), busy_seconds(), own_seconds()

    def cores(self) -> float:
        busy, own = busy_seconds() - self.busy, own_seconds() - self.own
        return max(0.0, busy - own) / (time.monotonic() - self.start)


def busy_seconds() -> float:
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    return sum(os.times()[:4])
