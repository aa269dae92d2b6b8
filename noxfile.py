"""``nox``: the whole suite on other versions than today's (``make versions``)."""

from __future__ import annotations

import nox

nox.options.sessions = ["lowest", "newest"]
nox.options.error_on_missing_interpreters = False
_PYTEST = ("python", "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider")


@nox.session(python=["3.10", "3.11"])
def lowest(session: nox.Session) -> None:
    """The oldest releases that setup.cfg allows."""
    session.install("-r", "tests/lowest.txt")
    session.install("--no-deps", "-e", ".")
    session.run("python", "-m", "pip", "check")
    session.run(*_PYTEST, *session.posargs)


@nox.session(python=["3.10", "3.11", "3.12", "3.13", "3.14"])
def newest(session: nox.Session) -> None:
    """What an installation gets today."""
    session.install("-e", ".[test]")
    session.run(*_PYTEST, *session.posargs)


@nox.session(python=["3.12"])
@nox.parametrize(
    "pins",
    [
        nox.param(("flask==3.0.3", "werkzeug==3.0.6"), id="flask3.0"),
        nox.param(("flask==3.1.0", "werkzeug==3.1.0"), id="flask3.1.0"),
    ],
)
def pairs(session: nox.Session, pins: tuple[str, ...]) -> None:
    """Releases of Flask and Werkzeug between, with the newest of everything else."""
    session.install("-e", ".[test]", *pins)
    session.run(*_PYTEST, *session.posargs)
