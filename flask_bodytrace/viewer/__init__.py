"""The trace viewer for development: a bounded store, its pages, and an OTLP receiver.

Nothing outside imports this package unless the viewer is on.
"""

from __future__ import annotations
