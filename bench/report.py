"""Figures over rounds: medians, spreads, bounds; as a table or as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Figure:
    case: str
    what: str
    unit: str
    at_least: float | None = None
    at_most: float | None = None
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
        """A lower bound is for the median, an upper one for every round."""
        below = self.at_least is not None and self.median < self.at_least
        above = self.at_most is not None and max(self.values) > self.at_most
        return below or above


def short(value: float) -> str:
    """Three digits that count."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


NUMBERS = (False, False, False, True, True, True, True, False)  # which columns of the table are


def pad(cell: str, width: int, number: bool) -> str:
    return cell.rjust(width) if number else cell.ljust(width)


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
    ) -> None:
        figure = self.figures.setdefault((case, what), Figure(case, what, unit, at_least, at_most))
        figure.values.append(value)
        print(f"  {case}: {what}: {short(value)} {unit}", file=sys.stderr, flush=True)

    def missed(self) -> list[Figure]:
        return [figure for figure in self.figures.values() if figure.missed]

    def table(self) -> str:
        head = ("case", "what", "unit", "median", "lowest", "highest", "rounds", "must be")
        rows = [head]
        for figure in self.figures.values():
            numbers = (short(figure.median), short(min(figure.values)), short(max(figure.values)))
            bound = f"{figure.bound} {'MISSED' if figure.missed else 'met'}" if figure.bound else ""
            rows.append((figure.case, figure.what, figure.unit, *numbers, str(len(figure.values)), bound))
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = ["| " + " | ".join(map(pad, row, widths, NUMBERS)) + " |" for row in rows]
        rule = ("-" * (width + 1) + (":" if number else "-") for width, number in zip(widths, NUMBERS))
        return "\n".join([lines[0], "|" + "|".join(rule) + "|", *lines[1:], "", self.circumstances()])

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
