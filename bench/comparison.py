"""Rounds of all cases through all tunnels, and the tables of them."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import namespace
import peers
import scale
import traffic
from cases import CASES, COLUMNS, GOALS, Figures, sizes_for, usual_sizes
from peers import KINDS, Kind, Place
from report import OtherPrograms, Progress, Report, machine

BASE = "stunnel"  # what all are compared with
GROUPS = (("stream",), ("one", "busy"), ("connects", "idle"))  # cases that share a table


@dataclass
class Comparison:
    place: Place
    kinds: list[Kind]
    cases: list[str]
    quick: bool
    rounds: int
    report: Report
    failures: list[str] = field(default_factory=list)

    def run(self) -> None:
        steps = sum(case not in kind.cannot for kind in self.kinds for case in self.cases)
        progress = Progress(steps * self.rounds)
        for number in range(self.rounds):
            others = OtherPrograms()
            for case in self.cases:
                came: dict[str, Figures] = {}
                # The one that was last is first next time.
                for kind in self.kinds if number % 2 == 0 else self.kinds[::-1]:
                    if case not in kind.cannot:
                        progress.say(f"round {number + 1}, {case}, {kind.name}")
                        came[kind.name] = self.measure(kind, case)
                self.compare(came)
            self.report.others.append(others.cores())

    def measure(self, kind: Kind, case: str) -> Figures:
        """Through a new pair of programs. What a tunnel cannot do is told at the end; wrong bytes end the run."""
        try:
            with peers.running(self.place, kind) as (tunnel, backend):
                figures = CASES[case](tunnel, backend, sizes_for(kind, self.quick))
        except traffic.WrongBytes as error:
            raise traffic.WrongBytes(f"{case}, {kind.name}: {error}") from None
        except (traffic.TrafficError, AssertionError) as error:
            self.failures.append(f"{case}, {kind.name}: {error}")
            print(f"  FAILED: {self.failures[-1]}", file=sys.stderr, flush=True)
            return {}
        for column, value in figures.items():
            goal = next((goal for goal in GOALS if goal.column == column and not goal.is_ratio), None)
            bound = goal.bound(kind.name) if goal else {}
            self.report.add(column, kind.name, COLUMNS[column].unit, value, **bound)
        return figures

    def compare(self, came: dict[str, Figures]) -> None:
        """Ratios to what the base did in the same round."""
        for column, of_base in came.get(BASE, {}).items():
            goal = next((goal for goal in GOALS if goal.column == column and goal.is_ratio), None)
            for name, figures in came.items():
                if name != BASE and column in figures:
                    bound = goal.bound(name) if goal else {}
                    self.report.add(f"{column} / {BASE}", name, "", figures[column] / of_base, **bound)

    # ---- what is printed ----

    def tables(self) -> str:
        marks, notes = self.notes()
        names = {kind.name: kind.name for kind in self.kinds}
        parts = ["Medians (lowest-highest)", ""]
        for group in GROUPS:
            columns = {column.name: column.name for column in COLUMNS.values() if column.case in group}
            if any(case in self.cases for case in group):
                parts += [self.report.matrix("tunnel", names, columns, marks), ""]
        parts += [f"Sizes: {usual_sizes(self.quick)}", ""]
        parts += [f"- `{kind.name}`: {kind.what}" for kind in self.kinds] + notes
        ratios = {f"{column} / {BASE}": column for column in COLUMNS}
        if any(case in ratios for case, _ in self.report.figures):
            others = {name: name for name in names if name != BASE}
            parts += ["", f"Ratios to {BASE} in the same round", "", self.report.matrix("tunnel", others, ratios)]
        if any(figure.bound for figure in self.report.figures.values()):
            parts += ["", "Goals, by the median", "", self.report.table(lambda figure: bool(figure.bound))]
        return "\n".join(parts)

    def notes(self) -> tuple[dict[tuple[str, str], str], list[str]]:
        """Marks for cells, and what they mean."""
        texts: list[str] = []
        marks = {}
        for kind in self.kinds:
            for column in COLUMNS.values():
                text = kind.cannot.get(column.case, self.note(kind, column.case))
                if text and column.case in self.cases:
                    if text not in texts:
                        texts.append(text)
                    marks[column.name, kind.name] = f"[{texts.index(text) + 1}]"
        lines = [f"- [{number}] {text}" for number, text in enumerate(texts, 1)]
        return marks, lines

    def note(self, kind: Kind, case: str) -> str:
        if case in kind.notes:
            return kind.notes[case]
        if kind.is_slow:
            return "smaller sizes"
        idle = sizes_for(kind, self.quick).idle
        usual = usual_sizes(self.quick).idle
        return f"{idle:,} connections instead of {usual:,}" if case == "idle" and idle != usual else ""


def chosen(given: argparse.Namespace) -> list[Kind]:
    """The peers; or the end of the program if they or the cases cannot be had."""
    all_names: dict[str, tuple[list[str] | None, list[str]]] = {
        "case": (given.cases, list(CASES)),
        "peer": (given.peers, list(KINDS)),
    }
    for what, (names, known) in all_names.items():
        if unknown := set(names or []) - set(known):
            sys.exit(f"bench/run: no such {what}: {', '.join(unknown)}; there are {', '.join(known)}")
    kinds = [KINDS[name] for name in given.peers or KINDS]
    kinds = [kind for kind in kinds if not (given.mtu and kind.mtu)]
    if absent := peers.missing(kinds):
        sys.exit(f"bench/run: {', '.join(absent)}: not found; `bench/run --install` fetches it, --peers leaves it out")
    return kinds


def circumstances(given: argparse.Namespace) -> str:
    memory = "; ".join(peers.MEMORY_NOTES) or "Pss"
    congestion = namespace.setting("tcp_congestion_control")
    workers = "workers as the table says" if given.second_worker else f"{given.workers} worker(s) an end"
    return f"Loopback in a network namespace, MTU {namespace.mtu()}, TCP {congestion}; {workers}; memory is {memory}"


def main(given: argparse.Namespace, kinds: list[Kind]) -> int:
    refused = namespace.prepare()
    if given.mtu:
        namespace.set_mtu(given.mtu)
    traffic.check_that_wrong_bytes_are_seen()
    report = Report()
    failures: list[str] = []
    rounds = given.rounds or (2 if given.quick else 4)
    with tempfile.TemporaryDirectory(prefix="curvegate-bench-") as folder:
        place = Place(Path(folder), given.workers)
        if given.scale:
            tables = scale.scale(place, report, rounds, given.quick)
        elif given.second_worker:
            tables = scale.second_worker(place, report, rounds, given.quick)
        else:
            comparison = Comparison(place, kinds, given.cases or list(CASES), given.quick, rounds, report)
            try:
                comparison.run()
            except traffic.WrongBytes as error:
                sys.exit(f"bench/run: {error}. This tunnel changes what it carries; nothing more is measured.")
            tables, failures = comparison.tables(), comparison.failures
    lines = [tables, "", report.circumstances() + ".", circumstances(given) + ".", *(f"{line}." for line in refused)]
    lines += [f"FAILED: {failure}" for failure in failures]
    if given.json and given.json != "-":
        Path(given.json).write_text(report.as_json() + "\n")
    print(report.as_json() if given.json == "-" else "\n".join(lines))
    return 1 if failures or (given.check and report.missed()) else 0
