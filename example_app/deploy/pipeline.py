"""The pipeline, step by step on this machine: python -m example_app.deploy.pipeline.

It reads `pipeline.yml` as it is, and refuses one in which a stage could be left out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FORCED = ("static scan", "integration test", "canary")
"""Stages that no change goes around, in this order."""

_FILE = Path(__file__).with_name("pipeline.yml")
_ROOT = Path(__file__).parents[2]
_NO_JOBS = {"stages", "default", "variables", "workflow", "include"}
# By these a job may be left out, or fail without stopping what comes after.
_LOOPHOLES = {"allow_failure", "when", "rules", "only", "except", "needs", "dependencies"}


class NotForced(Exception):
    """A stage could be left out; the message says how."""


@dataclass(frozen=True)
class Step:
    """One command of a job."""

    stage: str
    job: str
    command: str


def steps(text: str) -> list[Step]:
    """Return the commands of a pipeline in their order.

    :param text: the file.
    :raises NotForced: it does not force what it has to.
    """
    read = yaml.safe_load(text)
    problems = list(_problems(read))
    if problems:
        raise NotForced("; ".join(problems))
    jobs = _jobs(read)
    return [
        Step(stage, name, command)
        for stage in read["stages"]
        for name, job in jobs.items()
        if job["stage"] == stage
        for command in job["script"]
    ]


def _jobs(read: dict[str, Any]) -> dict[str, Any]:
    return {name: job for name, job in read.items() if name not in _NO_JOBS}


def _problems(read: dict[str, Any]) -> Iterator[str]:
    stages, jobs = read.get("stages", []), _jobs(read)
    if [stage for stage in stages if stage in FORCED] != list(FORCED):
        yield f"the stages are {stages}: {', '.join(FORCED)} must be among them, in this order"
    for stage in FORCED:
        if not any(job.get("stage") == stage for job in jobs.values()):
            yield f"the stage {stage!r} has no job"
    for name, job in jobs.items():
        if job.get("stage") not in stages:
            yield f"{name} is of no stage there is: {job.get('stage')!r}"
        yield from _of_a_job(name, job)
    loopholes = _LOOPHOLES & {*read, *read.get("default", {})}
    for name in sorted(loopholes | ({"workflow", "include"} & set(read))):
        yield f"{name} could leave jobs out: take it out"


def _of_a_job(name: str, job: dict[str, Any]) -> Iterator[str]:
    if not job.get("script"):
        yield f"{name} does nothing"
    for loophole in sorted(_LOOPHOLES & set(job)):
        yield f"{name} could be left out or fail unnoticed: take out `{loophole}`"
    for command in job.get("script", ()):
        if command.rstrip().endswith(("|| true", "|| :")):
            yield f"{name} cannot fail: {command[:80]}"


def run(todo: Sequence[Step], root: Path = _ROOT) -> int:
    """Run commands one after the other; return the status of the first that fails."""
    python = Path(sys.executable).parent
    # As on a CI system: what is missing fails, and is not left out.
    environ = {**os.environ, "CI": "true", "PATH": f"{python}:{os.environ['PATH']}"}
    for number, step in enumerate(todo, 1):
        print(f"\n== {number}/{len(todo)} {step.stage}: {step.job}\n$ {step.command}", flush=True)
        began = time.monotonic()
        command = step.command.replace(".venv/bin/python", sys.executable)
        done = subprocess.run(["bash", "-ec", command], cwd=root, env=environ, check=False)  # noqa: S603, S607
        took = time.monotonic() - began
        if done.returncode:
            print(
                f"-- failed ({done.returncode}) after {took:.0f} s: nothing of what follows is run"
            )
            return done.returncode
        print(f"-- {took:.0f} s")
    print(f"\nall {len(todo)} steps succeeded")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 2 if the pipeline does not force what it has to."""
    parser = argparse.ArgumentParser(
        prog="python -m example_app.deploy.pipeline", description=__doc__
    )
    parser.add_argument("--file", type=Path, default=_FILE, help="(pipeline.yml beside this)")
    parser.add_argument("--list", action="store_true", help="print the steps, run none")
    options = parser.parse_args(arguments)
    try:
        todo = steps(options.file.read_text("utf-8"))
    except NotForced as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return 2
    if options.list:
        for step in todo:
            print(f"{step.stage}: {step.job}: {step.command}")
        return 0
    return run(todo)


if __name__ == "__main__":
    sys.exit(main())
