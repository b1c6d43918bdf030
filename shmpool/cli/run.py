"""One run of a farm: jobs to frames, frames to an output, and an exit code."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from shmpool import ArraySpec, Farm, Result, ShmpoolError
from shmpool.cli import display
from shmpool.cli.exits import BROKEN, DONE, FAILED
from shmpool.cli.jobs import Jobs
from shmpool.cli.journal import Journal
from shmpool.cli.outputs import Output
from shmpool.cli.report import Failure, Report
from shmpool.cli.stops import Stops
from shmpool.cli.target import Target


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to do."""

    target: Target
    jobs: Jobs
    output: Output
    journal: Journal | None
    size: tuple[int, int]
    limits: dict[str, Any]  # for the Farm
    stop_on_error: bool


class Run:
    """Does what a plan says."""

    def __init__(self, plan: Plan, report: Report) -> None:
        self._plan, self._report = plan, report
        self._todo = self._left_to_do()
        report.skipped = len(plan.jobs) - len(self._todo)
        title = f"{report.function} → {report.output or 'no output'}"
        self._display = display.choose(title, len(plan.jobs), report.skipped)
        self._stops = Stops(self._display.say)

    def _left_to_do(self) -> list[int]:
        """Places. Raises UsageError if what is done is of other jobs."""
        jobs, journal = self._plan.jobs, self._plan.journal
        if journal is None:
            return list(range(len(jobs)))
        there = self._plan.output.complete(journal)
        journal.check_jobs(jobs, there)
        return [place for place in range(len(jobs)) if place not in there]

    def __call__(self) -> int:
        """Run: the exit code."""
        began = time.perf_counter()
        with self._stops, display.warnings_shown():
            try:
                if self._todo:
                    self._work()
                self._finish()
            except KeyboardInterrupt:
                pass  # the second: what there is was closed on the way
            except (ShmpoolError, OSError, RuntimeError) as error:
                self._report.error = f"{type(error).__name__}: {error}"
            finally:
                self._stops.armed = False
        self._report.seconds = time.perf_counter() - began
        self._report.exit_code = self._code()
        return self._report.exit_code

    def _code(self) -> int:
        if self._stops.code:
            return self._stops.code
        if self._report.error:
            return BROKEN
        return FAILED if self._report.failed else DONE

    def _finish(self) -> None:
        """When nothing is left to do, the journal is no longer wanted."""
        plan, report = self._plan, self._report
        if report.skipped + report.done == report.jobs:
            plan.output.finish(plan.journal)
            if plan.journal is not None:
                plan.journal.remove()

    def _work(self) -> None:
        plan = self._plan
        height_first = (plan.size[1], plan.size[0], 3)
        with self._farm(ArraySpec(height_first, np.uint8)) as farm:
            self._report.workers = farm.workers
            self._stops.drain = farm.drain
            if self._stops.code:
                farm.drain()  # asked before there was a farm
            with self._opened(farm):
                shown = self._display.showing(farm, self._number)
                results = closing(farm.map(self._values(), ordered=plan.output.ordered))
                with shown, results as arriving:
                    self._stops.armed = True
                    self._take_all(farm, arriving)
            self._count(farm)

    def _farm(self, spec: ArraySpec) -> Farm:
        plan, name = self._plan, f"shmpool-{os.urandom(4).hex()}"
        if plan.journal is not None:  # a run that goes on removes what a killed one left
            plan.journal.add(pool=name)
        queues = plan.output.queues
        return Farm(
            plan.target.function, spec, name=name, queues=queues, on_error="yield", **plan.limits
        )

    def _values(self) -> Iterator[Any]:
        return (self._plan.jobs.values[place] for place in self._todo)

    def _number(self, index: int) -> int:
        return self._plan.jobs.numbers[self._todo[index]]

    @contextmanager
    def _opened(self, farm: Farm) -> Iterator[None]:
        """The output, closed whatever happens."""
        output = self._plan.output
        try:
            output.open(farm.pool, self._plan.journal)
            yield
        finally:
            self._stops.armed = False  # it is closed whatever else is asked
            output.close()

    def _take_all(self, farm: Farm, results: Generator[Result]) -> None:
        for result in results:
            if result.error is None:
                self._take(result)
            else:
                self._fail(result, result.error)
                if self._plan.stop_on_error:
                    farm.drain()
                    if self._plan.output.ordered:
                        return  # a gap: what comes after it is of no use
            self._display.advance(failed=result.error is not None)

    def _take(self, result: Result) -> None:
        plan, report, place = self._plan, self._report, self._todo[result.index]
        report.worker_seconds += result.seconds
        if report.values is not None:
            report.values[plan.jobs.numbers[place]] = result.value
        plan.output.write(place, result)
        if plan.journal is not None:
            plan.journal.add(job=place, digest=plan.jobs.digest(place))
        report.done += 1

    def _fail(self, result: Result, error: BaseException) -> None:
        number = self._number(result.index)
        self._report.failed.append(Failure(number, type(error).__name__, str(error)))

    def _count(self, farm: Farm) -> None:
        stale = sum(member.stale for member in farm.pool.statistics().members)
        self._report.count(farm.statistics(), stale, self._plan.output.crossings)
