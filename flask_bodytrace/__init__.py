"""Request bodies that can be read again, and the trace they belong to, for Flask.

>>> from flask import Flask, g, request
>>> from flask_bodytrace import BodyTrace
>>> app = Flask(__name__)
>>> app.config["BODYTRACE_IDS"] = "order.id=orderId,user.id=userId"
>>> bodytrace = BodyTrace(app)
>>> @app.post("/orders")
... def create():
...     assert request.get_json()["orderId"] == g.trace.ids["order.id"]
...     return {"bytes": len(request.get_data()), "order": g.trace.ids["order.id"]}
>>> response = app.test_client().post("/orders", json={"orderId": "ORD1", "userId": "U1"})
>>> response.get_json()
{'bytes': 35, 'order': 'ORD1'}
>>> len(response.headers["X-Trace-ID"])
32
"""

from .body.cached import CachedBody
from .body.stream import BodyStream
from .exceptions import BodyNotReplayable, BodyTraceError, ConfigError
from .extension import BodyTrace
from .otel.id_generator import BusinessIdGenerator
from .settings import Settings
from .trace.carry import carry, carry_iterable
from .trace.current import RequestTrace, current_trace
from .trace.xtrace import XTracePropagator
from .version import __version__

__all__ = [
    "BodyNotReplayable",
    "BodyStream",
    "BodyTrace",
    "BodyTraceError",
    "BusinessIdGenerator",
    "CachedBody",
    "ConfigError",
    "RequestTrace",
    "Settings",
    "XTracePropagator",
    "__version__",
    "carry",
    "carry_iterable",
    "current_trace",
]
