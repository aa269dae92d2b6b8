"""What an audit log needs: request bodies as text, with secrets hidden.

For example::

    capture = BodyCapture(limit=4096, redactor=Redactor(["iban"]), always=True)
    log.info("order %s", capture.content(request.get_data(), request.content_type))

``docs/settings.md`` says what is hidden, and what is not yet.
"""

from __future__ import annotations

from .trace.capture import BodyCapture
from .trace.redact import Redactor

__all__ = ["BodyCapture", "Redactor"]
