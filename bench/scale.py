"""curvegate alone: how it does with more connections, and with a second worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cases
import traffic
from peers import KINDS, Kind, Place, running
from report import OtherPrograms, Progress, Report

OURS = ("curve_tun:", "curvecp:")
SCALED = ("plain", *OURS)  # what the kernel's share does by itself, and ours
CONNECTIONS = (64, 256, 1000, 4000)
WORKERS = (1, 2)
SECONDS = {False: 5.0, True: 1.5}  # is it quick


def scale(place: Place, report: Report, rounds: int, quick: bool) -> str:
    """64 bytes there and back on ever more connections, one request in flight on each."""
    progress = Progress(rounds * len(SCALED) * len(CONNECTIONS))
    for number, kind in in_turn(SCALED, report, rounds):
        done: dict[int, cases.Requests] = {}
        for count in CONNECTIONS:
            progress.say(f"round {number + 1}, {kind.name} {count} connections")
            with running(place, kind) as (tunnel, backend):
                traffic.connects(backend, tunnel.local, 64, 16)
                done[count] = cases.requests(tunnel, backend, count, SECONDS[quick])
            add_requests(report, f"{kind.name} {count} connections", done[count])
            report.add("memory a connection", f"{kind.name} {count} connections", "KiB", done[count].memory)
        first, rest = done[CONNECTIONS[0]], done.values()
        slowest = min(one.rate for one in rest) / first.rate
        dearest = max(one.cpu_us for one in rest) / first.cpu_us
        least: dict[str, Any] = {"at_least": 0.8} if kind.name in OURS else {}
        most: dict[str, Any] = {"at_most": 1.2, "by_median": True} if kind.name in OURS else {}
        report.add("64 to 4,000", f"{kind.name} lowest rate / that of 64", "", slowest, **least)
        report.add("64 to 4,000", f"{kind.name} highest CPU / that of 64", "", dearest, **most)
    names = {f"{kind} {count} connections": f"{kind} {count}" for kind in SCALED for count in CONNECTIONS}
    columns = ("rate", "CPU a request", "cores in use", "memory a connection")
    goals = report.table(lambda figure: figure.case == "64 to 4,000")
    return f"{report.matrix('connections', names, dict(zip(columns, columns)))}\n\n{goals}"


def second_worker(place: Place, report: Report, rounds: int, quick: bool) -> str:
    """The traffic shares the machine with both: what a second worker can add, a second core must have left."""
    progress = Progress(rounds * len(OURS) * len(WORKERS))
    sizes = cases.sizes_for(KINDS[OURS[0]], quick)
    for number, kind in in_turn(OURS, report, rounds):
        for workers in WORKERS:
            name = f"{kind.name} {workers} worker(s)"
            progress.say(f"round {number + 1}, {name}")
            of_theirs = replace(place, workers=workers, running=[])
            with running(of_theirs, kind) as (tunnel, backend):
                add_requests(report, name, cases.requests(tunnel, backend, 64, SECONDS[quick]))
            with running(of_theirs, kind) as (tunnel, backend):
                for column, value in cases.connects(tunnel, backend, sizes).items():
                    report.add(column, name, cases.COLUMNS[column].unit, value)
    names = {name: name for kind in OURS for name in (f"{kind} {workers} worker(s)" for workers in WORKERS)}
    columns = ("rate", "CPU a request", "cores in use", "connects", "connects, CPU")
    return report.matrix("64 connections", names, dict(zip(columns, columns)))


def in_turn(names: tuple[str, ...], report: Report, rounds: int) -> Iterator[tuple[int, Kind]]:
    """All in every round; the one that was last is first next time."""
    for number in range(rounds):
        others = OtherPrograms()
        for name in names if number % 2 == 0 else names[::-1]:
            yield number, KINDS[name]
        report.others.append(others.cores())


def add_requests(report: Report, name: str, done: cases.Requests) -> None:
    report.add("rate", name, "1/s", done.rate)
    report.add("CPU a request", name, "us", done.cpu_us)
    report.add("cores in use", name, "cores", done.cores)
