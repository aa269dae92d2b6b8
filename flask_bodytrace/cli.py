"""``flask bodytrace``: what is configured, what is wrong with it, and which trace an id leads to.

Flask loads this module for every ``flask`` command, so it imports nothing heavy: each command
imports what it needs.
"""

from __future__ import annotations

import click
from flask.cli import AppGroup

bodytrace = AppGroup("bodytrace", help="Request bodies and traces: settings, checks, look-ups.")


@bodytrace.command("trace-id")
@click.argument("key")
def trace_id(key: str) -> None:
    """Print the trace id that requests carrying KEY as their trace key get."""
    from flask import current_app

    from .propagation import derive_trace_id

    settings = current_app.extensions["bodytrace"].settings
    click.echo(f"{derive_trace_id(key, settings.hash_key):032x}")
