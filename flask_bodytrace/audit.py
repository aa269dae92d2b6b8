"""What an audit log needs: request bodies as text, with secrets hidden.

For example::

    capture = BodyCapture(limit=4096, redactor=Redactor(["loyalty_number"]))
    log.info("order %s", capture.content(request.get_data(), request.content_type))

``docs/settings.md`` says what is hidden.
"""

from __future__ import annotations

from .capture.documents import BodyCapture
from .capture.redactor import Redactor

__all__ = ["BodyCapture", "Redactor"]
