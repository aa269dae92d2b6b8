"""``flask bodytrace``: what is configured, what is wrong with it, and which trace an id leads to.

Flask loads this module for every ``flask`` command, so it imports nothing heavy: each command
imports what it needs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import update_wrapper
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

import click
from flask import current_app
from flask.cli import AppGroup, ScriptInfo, with_appcontext

from .version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from .extension import State


def _output() -> TextIO:
    """Standard output, which has "?" for what its encoding has not: what is printed is others'."""
    import sys

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return sys.stdout


bodytrace = AppGroup("bodytrace", help="Request bodies and traces: settings, checks, look-ups.")
click.version_option(__version__, prog_name="flask_bodytrace")(bodytrace)


def _with_state(command: Callable[..., Any]) -> Callable[..., Any]:
    """Call `command` with the application's `State`; settings it refuses are told in words.

    :raises click.ClickException: from the command: the application has no `BodyTrace`.
    """

    @click.pass_context
    def load_first(context: click.Context, /, *args: Any, **kwargs: Any) -> Any:
        from .exceptions import ConfigError

        try:
            context.ensure_object(ScriptInfo).load_app()
        except ConfigError as error:
            raise click.ClickException(str(error)) from None
        return context.invoke(with_appcontext(command_with_state), *args, **kwargs)

    def command_with_state(*args: Any, **kwargs: Any) -> Any:
        state = current_app.extensions.get("bodytrace")
        if state is None:
            raise click.ClickException(
                f"the application {current_app.name!r} has no BodyTrace: call BodyTrace(app), or "
                "init_app(app) in its factory"
            )
        return command(state, *args, **kwargs)

    return update_wrapper(load_first, command)


@bodytrace.command("config", with_appcontext=False)
@_with_state
def config(state: State) -> None:
    """Print each setting, its value (secrets hidden) and where it came from."""
    from . import settings

    rows = []
    for key, metadata in settings.keys().items():
        name = key.removeprefix(settings.PREFIX).lower()
        value = getattr(state.settings, name)
        if metadata["secret"]:
            shown = "(set, hidden)" if value else "(not set)"
        else:
            shown = _shown(value, metadata["unit"])
        rows.append((key, shown, state.settings.sources.get(name, "default")))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for key, shown, source in rows:
        click.echo(f"{key:{widths[0]}}  {shown:{widths[1]}}  {source}")
    if state.settings.capture_body != "never" or state.settings.capture_response != "never":
        from .flow.plan import body_redactor

        click.echo("\nHidden in captured bodies:")
        for what, which in body_redactor(state.settings).described():
            click.echo(f"  {what}: {which}")


def _shown(value: Any, unit: str) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        return f"{value} {unit}"
    if isinstance(value, Mapping):
        from .ids.rules import source_name

        return ",".join(
            f"{name}={source_name(source)}" for name, sources in value.items() for source in sources
        )
    if isinstance(value, tuple):
        return ",".join(value)
    return str(getattr(value, "__qualname__", value))


@bodytrace.command("check", with_appcontext=False)
@_with_state
def check(state: State) -> None:
    """Say what is wrong with the set-up; exit with 1 if anything must be mended."""
    from .checks import findings

    found = findings(current_app, state)
    for finding in found:
        click.echo(f"{finding.level}: {finding.text}")
    errors = sum(finding.level == "error" for finding in found)
    if errors:
        raise click.exceptions.Exit(1)
    click.echo("ok" if not found else "ok: nothing that must be mended")


@bodytrace.command("trace-id", with_appcontext=False)
@click.argument("key")
@_with_state
def trace_id(state: State, key: str) -> None:
    """Print the trace id that requests get whose BODYTRACE_TRACE_KEY id is KEY."""
    from .ids.hash import derive_trace_id, id_hasher

    settings = state.settings
    if not settings.trace_key:
        click.echo(
            "warning: BODYTRACE_TRACE_KEY is not set, so this application draws its trace ids at "
            "random",
            err=True,
        )
    if settings.trace_key in settings.id_hash:
        key = id_hasher(settings.trace_key, settings.hash_key.encode())(key)
    click.echo(f"{derive_trace_id(key, settings.hash_key):032x}")


@bodytrace.command("redact", with_appcontext=False)
@click.argument("file", type=click.File("rb"))
@click.option("--type", "content_type", help="Media type; by the file's name if not given.")
@click.option("--response", is_flag=True, help="It is an answer's body, not a request's.")
@_with_state
def redact(state: State, file: BinaryIO, content_type: str | None, response: bool) -> None:
    """Print what the settings let captured of the body in FILE; - is the standard input."""
    from mimetypes import guess_type

    from .flow.plan import body_capture, body_redactor
    from .log_once import LogOnce

    if content_type is None:
        content_type = guess_type(file.name)[0] or "application/json"
    settings = state.settings
    capture = body_capture(settings, body_redactor(settings), LogOnce("%s failed"))
    where = "response" if response else "request"
    shown = capture.shown(file.read(), content_type, where=where)
    if shown is None:
        raise click.ClickException(
            f"nothing: only size and type are captured of {content_type}; another type is given "
            "with --type"
        )
    click.echo(shown.text, _output())
    if shown.is_cut:
        click.echo(f"(cut at BODYTRACE_CAPTURE_LIMIT, {settings.capture_limit} B)", err=True)
    if not shown.is_parsed:
        click.echo(f"(not parsed as {content_type}: secrets found by their form only)", err=True)


@bodytrace.command("routes", with_appcontext=False)
@_with_state
def routes(state: State) -> None:
    """Print which routes are traced, and which ids their requests can carry."""
    from .checks import traced_routes

    rows = [("route", "methods", "traced", "ids"), *traced_routes(current_app, state)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for route, methods, traced, ids in rows:
        line = f"{route:{widths[0]}}  {methods:{widths[1]}}  {traced:{widths[2]}}  {ids}"
        click.echo(line.rstrip())


# Each command imports what it needs inside, so that others do not load it.


@bodytrace.command("viewer", with_appcontext=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=4318,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port; 0 for any.",
)
@click.option(
    "--store",
    "path",
    type=click.Path(dir_okay=False),
    help="A file (SQLite) that keeps traces and log records over restarts.",
)
@click.option(
    "--grpc-port",
    default=4317,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port for OTLP over gRPC, where grpcio is installed; 0 for any.",
)
@click.option("--no-grpc", is_flag=True, help="No OTLP over gRPC.")
def viewer(host: str, port: int, path: str | None, grpc_port: int, no_grpc: bool) -> None:
    """Show traces, logs and metrics in the browser, and receive them: OTLP over HTTP and gRPC.

    A service with an OTLP exporter needs no settings to send here. An address that other machines
    reach needs FLASK_BODYTRACE_VIEWER_TOKEN, a secret they must send.
    """
    from contextlib import ExitStack
    from pathlib import Path

    from .viewer import kept_store, server, store

    with ExitStack() as stack:
        try:
            kept = None if path is None else kept_store.KeptStore(Path(path), store.ALONE)
            if kept is not None:
                stack.callback(kept.close)
            made = server.make(host, port, server.token_from_environment(), kept)
        except (server.CannotServe, kept_store.CannotKeep) as error:
            raise click.ClickException(str(error)) from None
        click.echo(f"Traces: {server.url_of(made)}/   OTLP/HTTP: the same address. Ctrl-C ends it.")
        if not no_grpc:
            click.echo(_receive_grpc(stack, host, grpc_port, made.app))
        made.serve_forever()


def _receive_grpc(stack: ExitStack, host: str, port: int, app: Any) -> str:
    """Take OTLP over gRPC as well, until `stack` ends; says where, or why not."""
    try:
        from .viewer import grpc_receiver
    except ImportError:
        return "No OTLP/gRPC: it needs grpcio, pip install 'flask-bodytrace[grpc]'."
    from .viewer import otlp, server

    try:
        address = stack.enter_context(grpc_receiver.receiving(host, port, app))
    except (server.CannotServe, otlp.ProtobufMissing) as error:
        return f"No OTLP/gRPC: {error}."
    return f"OTLP/gRPC: {address}"


def _number(_context: click.Context, _option: click.Parameter, value: float) -> float:
    # No range leaves it out, since it compares to nothing.
    if math.isnan(value):
        raise click.BadParameter("nan is no number")
    return value


@bodytrace.command("tail", with_appcontext=False)
@click.argument("url", default="http://127.0.0.1:4318")
@click.option(
    "--wait",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0, 3600),
    callback=_number,
    help="Seconds without a new span after which a trace counts as finished.",
)
def tail(url: str, wait: float) -> None:
    """Print finished traces as trees, from the viewer at URL.

    URL may also be an application's, with /_bodytrace. If nothing is at the default one, a viewer
    is started there. A viewer with a token is sent FLASK_BODYTRACE_VIEWER_TOKEN.
    """
    from .viewer.tail import CannotFollow, follow_or_serve

    try:
        follow_or_serve(url, wait, _output())
    except CannotFollow as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        click.echo()


_url_option = click.option(
    "--url",
    default="http://127.0.0.1:4318",
    show_default=True,
    help="The viewer; an application's ends with /_bodytrace.",
)


@bodytrace.command("show", with_appcontext=False)
@click.argument("trace_id")
@_url_option
@click.option(
    "--as",
    "form",
    default="tree",
    show_default=True,
    type=click.Choice(["tree", "curl", "httpie", "python"]),
    help="The tree, or what sends the request again that the trace starts with.",
)
def show(trace_id: str, url: str, form: str) -> None:
    """Print the tree of a trace, from a viewer, or what repeats its request."""
    from .viewer import look_up, server, tail

    try:
        look_up.show(tail.Source(url, server.token_from_environment()), trace_id, _output(), form)
    except tail.CannotFollow as error:
        raise click.ClickException(str(error)) from None


@bodytrace.command("search", with_appcontext=False)
@click.argument("words", nargs=-1)
@_url_option
@click.option("--service", default="", help="Only traces with this service.")
@click.option("--status", default="", help="ok, error, a status such as 404, or 4xx.")
@click.option("--min", "minimum", default="", help="Only traces this long or longer: 10ms, 1.5s.")
@click.option(
    "--sort", default="", help="A column: started, name, spans, status, duration; - turns."
)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
def search(words: tuple[str, ...], url: str, limit: int, **options: str) -> None:
    """Print the traces that match, from a viewer: order.id=ORD1, any text, -status=error.

    WORDS are as in the viewer's search; all have to match. Exits with 1 if nothing does.
    """
    from .viewer import look_up, server, tail

    query = {"q": look_up.query_of(words), "min": options.pop("minimum"), **options}
    try:
        look_up.check(query)
        source = tail.Source(url, server.token_from_environment())
        found = look_up.search(source, query, limit, _output())
    except look_up.NoSuchFilter as error:
        raise click.BadParameter(str(error)) from None
    except tail.CannotFollow as error:
        raise click.ClickException(str(error)) from None
    if found > limit:
        click.echo(f"({found} match; --limit shows more)", err=True)
    if not found:
        click.echo("no trace matches", err=True)
        raise SystemExit(1)
