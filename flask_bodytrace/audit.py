"""What an audit log needs: request bodies as text, without their secrets.

capture = BodyCapture(limit=4096, redactor=Redactor(["iban"]), always=True)
log.info("order", body=capture.content(request.get_data(), request.content_type))
"""

from __future__ import annotations

from .trace.capture import BodyCapture
from .trace.redact import Redactor

__all__ = ["BodyCapture", "Redactor"]
