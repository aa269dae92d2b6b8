"""The trace viewer for development: a bounded store, its pages, and an OTLP receiver.

Spans and log records come in by `collector` (this process's own) or `receiver` and `otlp` (other
services'; metrics by `otlp_metrics`, over gRPC by `grpc_receiver`), and are kept in `store` as
`model` and `metrics` have them. `template_notes` and `sql_notes` add what this process did and
made no span of (`notes`). `pages` are the WSGI application, `access` says who may see it,
`mount` puts it into a Flask application, `handover` keeps its traces over a reload, `server` runs
it alone. The rest is one module for one page, picture or format.

Belongs here: showing traces. Does not belong here: making them.

Nothing outside imports this folder unless the viewer is on or one of its commands runs.
"""

from __future__ import annotations

from .access import Access
from .model import KINDS, Span
from .otlp import spans_from_json
from .pages import Viewer
from .store import TraceStore

__all__ = ["KINDS", "Access", "Span", "TraceStore", "Viewer", "spans_from_json"]
