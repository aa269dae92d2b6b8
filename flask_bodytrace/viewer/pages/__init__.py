"""The pages of the viewer: one module for each, and the WSGI application that serves them.

A page is a function that takes a `Visit` and answers it. `application` knows which address is
whose; `site` renders.

Belongs here: answering requests. Does not belong here: working out what a page shows.
"""

from __future__ import annotations

from .application import Viewer

__all__ = ["Viewer"]
