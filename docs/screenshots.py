# ruff: noqa: INP001 - a program, not a package
"""Make the pictures of the trace viewer in docs/images, from the spans of real requests.

Run it from the checkout: ``.venv/bin/python docs/screenshots.py``. It needs Chromium, Playwright
and the test extra. Three services run in this process, each with a tracer provider of its own, and
export over OTLP to a viewer.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import requests
from flask import Flask, abort, g, jsonify, request
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Tracer, get_current_span
from playwright.sync_api import Browser, sync_playwright
from werkzeug.serving import make_server

from flask_bodytrace import BodyTrace
from flask_bodytrace.viewer import server

IMAGES = Path(__file__).parent / "images"
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 780}


class OutOfStockError(Exception):
    """What the picture of an exception shows."""


class Service:
    """A Flask application with BodyTrace and a tracer provider of its own."""

    def __init__(self, name: str, endpoint: str) -> None:
        resource = Resource.create({"service.name": name})
        self.provider = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(f"{endpoint}/v1/traces")
        self.provider.add_span_processor(BatchSpanProcessor(exporter))
        self.loggers = LoggerProvider(resource=resource)
        log_exporter = OTLPLogExporter(f"{endpoint}/v1/logs")
        self.loggers.add_log_record_processor(BatchLogRecordProcessor(log_exporter))
        metric_exporter = OTLPMetricExporter(f"{endpoint}/v1/metrics")
        reader = PeriodicExportingMetricReader(metric_exporter, export_interval_millis=150)
        self.meters = MeterProvider([reader], resource=resource)
        self.tracer: Tracer = self.provider.get_tracer("shop")
        self.app = Flask(name)
        self.app.config["BODYTRACE_IDS"] = "order.id=orderId,user.id=userId"
        self.app.config["BODYTRACE_VIEWER"] = "off"
        BodyTrace(self.app, tracer_provider=self.provider, meter_provider=self.meters)

    def log(self, level: SeverityNumber, body: str, **attributes: str) -> None:
        """A log record of the current span."""
        named = {key.replace("__", "."): value for key, value in attributes.items()}
        logger = self.loggers.get_logger(f"{self.app.name}.views")
        logger.emit(severity_number=level, severity_text=level.name, body=body, attributes=named)

    def shutdown(self) -> None:
        """Send what is left."""
        for provider in (self.provider, self.loggers, self.meters):
            provider.shutdown()

    @contextmanager
    def work(self, name: str, seconds: float, **attributes: str) -> Iterator[None]:
        """A span below the current one."""
        kind = SpanKind.CLIENT if attributes else SpanKind.INTERNAL
        named = {key.replace("__", "."): value for key, value in attributes.items()}
        with self.tracer.start_as_current_span(name, kind=kind, attributes=named):
            time.sleep(seconds * random.uniform(0.6, 1.6))  # noqa: S311 - no secret
            yield

    def query(self, statement: str, seconds: float) -> None:
        """A query of a database there is not."""
        verb, _, table = statement.partition(" ")
        with self.work(
            f"{verb} {table}",
            seconds,
            db__system__name="postgresql",
            db__namespace=f"shop-{table}",
            db__query__text=f"{verb} … {table}",
        ):
            pass

    def call(self, url: str, body: Any) -> requests.Response:
        """Call another service, traced."""
        name = url.split("//")[1].partition("/")[2]
        with self.tracer.start_as_current_span(
            f"POST /{name}", kind=SpanKind.CLIENT, attributes={"url.full": url}
        ):
            return requests.post(url, json=body, headers=g.trace.headers(), timeout=10)


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """Run an application in a thread; gives its URL."""
    made = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.port}"
    finally:
        made.shutdown()
        thread.join()


def payments(endpoint: str) -> Service:
    """The service at the end."""
    service = Service("payments", endpoint)

    @service.app.post("/charges")
    def charge() -> Any:
        with service.work("check fraud rules", 0.006):
            pass
        amount = request.get_json()["amount"]
        if amount > 900:
            service.log(SeverityNumber.WARN, f"refused {amount}.00 EUR: over the limit of the card")
            abort(402)
        with service.work("authorize card", 0.018):
            service.query("INSERT charges", 0.004)
        return {"charged": True}

    return service


def orders(endpoint: str, payments_url: str) -> Service:
    """The service in the middle."""
    service = Service("orders", endpoint)

    @service.app.post("/orders")
    def create() -> Any:
        order = request.get_json()
        with service.work("validate", 0.002):
            pass
        with service.work("reserve stock", 0.003):
            service.query("SELECT stock", 0.006)
            get_current_span().add_event("reserved", {"sku": order["sku"], "quantity": 2})
            service.log(SeverityNumber.INFO, f"reserved 2 of {order['sku']}", sku=order["sku"])
            if order["sku"] == "SKU-13":
                service.log(SeverityNumber.ERROR, f"{order['sku']}: 2 wanted, 0 left")
                raise OutOfStockError(f"{order['sku']}: 2 wanted, 0 left")
        answer = service.call(f"{payments_url}/charges", order)
        service.query("INSERT orders", 0.005)
        return jsonify(order), 201 if answer.ok else 402

    return service


def shop(endpoint: str, orders_url: str) -> Service:
    """The service in front."""
    service = Service("shop", endpoint)

    @service.app.post("/checkout")
    def checkout() -> Any:
        with service.work("load cart", 0.003):
            service.query("SELECT carts", 0.003)
        answer = service.call(f"{orders_url}/orders", request.get_json())
        return answer.text, answer.status_code

    @service.app.get("/products/<sku>")
    def product(sku: str) -> Any:
        service.query("SELECT products", 0.002)
        return {"sku": sku}

    return service


def send_requests(url: str) -> None:
    """What customers do."""
    chosen = random.Random(7)  # noqa: S311 - the same pictures every time
    for number in range(46):
        if number % 3 == 1:
            requests.get(f"{url}/products/SKU-{number}", timeout=10)
            continue
        body = {
            "orderId": f"ORD{123400 + number}",
            "userId": f"u-{chosen.randrange(100, 120)}",
            "sku": "SKU-13" if number in {17, 35} else f"SKU-{number}",
            "amount": 950 if number in {9, 29} else chosen.randrange(10, 800),
        }
        requests.post(f"{url}/checkout", json=body, timeout=10)
        time.sleep(chosen.random() * 0.1)


def as_it_is(_page: Any) -> None:
    """Nothing to click first."""


def shoot(
    browser: Browser, url: str, name: str, visit: Callable[[Any], None], **looks: Any
) -> None:
    """Save one picture.

    :param visit: brings the page to what is to be seen.
    """
    context = browser.new_context(
        viewport=looks.pop("viewport", WIDE), locale=looks.pop("locale", "en-GB"), **looks
    )
    page = context.new_page()
    page.goto(url)
    visit(page)
    path = IMAGES / f"viewer-{name}.png"
    page.screenshot(path=path)
    context.close()
    print(path, path.stat().st_size)  # noqa: T201 - a program that says what it made


def main() -> None:
    """Make them all."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    IMAGES.mkdir(exist_ok=True)
    with ExitStack() as stack:
        viewer = stack.enter_context(server.running(server.make(port=0)))
        services = [payments(viewer)]
        services.append(orders(viewer, stack.enter_context(serving(services[-1].app))))
        services.append(shop(viewer, stack.enter_context(serving(services[-1].app))))
        for service in services:
            service.app.logger.setLevel(logging.CRITICAL + 1)
        send_requests(stack.enter_context(serving(services[-1].app)))
        for service in services:
            service.shutdown()
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=CHROMIUM, args=ARGUMENTS
        )
        # The last order that went through, and the last that did not.
        checkout = "tr:not(.failed) a:has-text('checkout')"
        shoot(browser, viewer, "list", as_it_is)
        shoot(browser, viewer, "list-dark", as_it_is, color_scheme="dark")
        shoot(browser, viewer, "trace", lambda page: page.click(checkout))

        def to_exception(page: Any) -> None:
            page.goto(f"{viewer}/?status=5xx")
            page.click("tr a:has-text('checkout')")
            page.click("li.failed a:has(.name > bdi:text-is('POST /orders')) >> nth=-1")
            # Where this machine keeps the checkout is nobody's business.
            page.eval_on_selector(
                "pre",
                "(pre, root) => { pre.textContent = pre.textContent.replaceAll(root, '') }",
                f"{Path(__file__).parent.parent}/",
            )

        shoot(browser, viewer, "span", to_exception)
        shoot(browser, f"{viewer}/map", "map", as_it_is)
        shoot(browser, f"{viewer}/routes", "routes", as_it_is)
        shoot(
            browser,
            f"{viewer}/routes",
            "compare",
            lambda page: page.click("tr:has-text('/checkout') a:has-text('Compare')"),
        )
        shoot(
            browser,
            f"{viewer}/routes",
            "flame",
            lambda page: page.click("tr:has-text('/checkout') a:has-text('Flame')"),
        )
        shoot(
            browser,
            f"{viewer}/routes",
            "routes-zh-dark",
            as_it_is,
            color_scheme="dark",
            locale="zh-CN",
        )
        shoot(browser, f"{viewer}/logs", "logs", as_it_is)
        shoot(browser, f"{viewer}/metrics", "metrics", as_it_is)
        shoot(browser, f"{viewer}/map", "map-phone", as_it_is, viewport=PHONE)
        shoot(
            browser,
            viewer,
            "phone",
            lambda page: page.click(checkout),
            viewport=PHONE,
            color_scheme="dark",
        )
        browser.close()


if __name__ == "__main__":
    main()
