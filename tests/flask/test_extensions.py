"""Public Flask extensions, each in a small application: answers are those of stock, bodies are read
by everybody, and the request is traced.

`CASES` is what docs/works-with.md lists.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, g, jsonify, request, session

from flask_bodytrace import BodyTrace
from flask_bodytrace.testing import SpanRecorder, capture_spans

ORDER = {"orderId": "ORD1", "quantity": 2}
BODY = json.dumps(ORDER).encode()
JSON = {"data": BODY, "content_type": "application/json"}
Client = Any
Answers = list[Any]
Use = Callable[[Client], Answers]


@dataclass
class Attach:
    """Makes the case's application, and attaches to it before or after everything else, or not."""

    when: str
    folder: Path
    app: Any = None
    seen: list[bytes] = field(default_factory=list)

    def new(self, kind: Callable[..., Any] = Flask, *arguments: Any, **keywords: Any) -> Any:
        made = kind(*(arguments or ("shop",)), **keywords)
        # connexion's application holds Flask's.
        self.app = made if isinstance(made, Flask) else made.app
        self.app.secret_key = "not a secret"
        if self.when == "first":
            self._attach()
        return made

    def finish(self) -> None:
        if self.when == "last":
            self._attach()

    def _attach(self) -> None:
        BodyTrace(self.app, ids="order.id=orderId", capture_body="always", logs=True)
        self.app.before_request(lambda: self.seen.append(request.get_data()))

        @self.app.after_request
        def again(response: Response) -> Response:
            if self.seen:
                assert request.get_data() == self.seen.pop()
            return response


def create() -> Any:
    """The view of most cases."""
    order = request.get_json()
    return {"order": order["orderId"], "bytes": len(request.get_data())}, 201


def flask_login(attach: Attach) -> Use:
    from flask_login import LoginManager, UserMixin, current_user, login_required, login_user

    app = attach.new()
    # Its last release calls datetime.utcnow for "remember me" only.
    manager = LoginManager(app)
    manager.user_loader(lambda name: type("User", (UserMixin,), {"id": name})())

    @app.post("/login")
    def login() -> str:
        login_user(type("User", (UserMixin,), {"id": request.get_json()["userId"]})())
        return "in"

    @app.post("/orders")
    @login_required
    def orders() -> Any:
        return {"by": current_user.id, "order": request.get_json()["orderId"]}

    return lambda client: [
        client.post("/orders", **JSON),
        client.post("/login", json={"userId": "ann"}),
        client.post("/orders", **JSON),
    ]


def flask_wtf(attach: Attach) -> Use:
    from flask_wtf import CSRFProtect, FlaskForm
    from flask_wtf.file import FileField
    from wtforms import StringField
    from wtforms.validators import DataRequired

    app = attach.new()
    CSRFProtect(app)

    class OrderForm(FlaskForm):
        orderId = StringField(validators=[DataRequired()])  # noqa: N815 - the field's name
        slip = FileField()

    @app.route("/orders", methods=["GET", "POST"])
    def orders() -> Any:
        form = OrderForm()
        if form.validate_on_submit():
            return {"order": form.orderId.data, "slip": form.slip.data.read().decode()}
        return {"token": form.csrf_token.current_token, "errors": sorted(form.errors)}

    def use(client: Client) -> Answers:
        token = client.get("/orders").json["token"]
        from io import BytesIO

        form = {"orderId": "ORD1", "slip": (BytesIO(b"paper"), "slip.txt"), "csrf_token": token}
        refused = client.post("/orders", data={"orderId": "ORD1"})
        return [refused, client.post("/orders", data=form)]

    return use


def flask_restx(attach: Attach) -> Use:
    from flask_restx import Api, Resource, fields

    app = attach.new()
    api = Api(app)
    model = api.model(
        "Order", {"orderId": fields.String(required=True), "quantity": fields.Integer}
    )

    class Orders(Resource):
        @api.expect(model, validate=True)
        def post(self) -> Any:
            return {"order": api.payload["orderId"]}, 201

    api.add_resource(Orders, "/orders")
    return lambda client: [
        client.post("/orders", **JSON),
        client.post("/orders", json={"quantity": "x"}),
        client.get("/swagger.json"),
    ]


def flask_smorest(attach: Attach) -> Use:
    import marshmallow
    from flask.views import MethodView
    from flask_smorest import Api, Blueprint

    app = attach.new()
    app.config.update(API_TITLE="shop", API_VERSION="1", OPENAPI_VERSION="3.0.3")
    api = Api(app)
    routes = Blueprint("orders", "orders")

    class Order(marshmallow.Schema):
        orderId = marshmallow.fields.String(required=True)  # noqa: N815 - the field's name
        quantity = marshmallow.fields.Integer()

    @routes.route("/orders")
    class Orders(MethodView):
        @routes.arguments(Order)
        @routes.response(201, Order)
        def post(self, order: dict[str, Any]) -> Any:
            return order

    api.register_blueprint(routes)
    return lambda client: [client.post("/orders", **JSON), client.post("/orders", json={})]


def flask_restful(attach: Attach) -> Use:
    from flask_restful import Api, Resource, reqparse

    app = attach.new()
    parser = reqparse.RequestParser()
    parser.add_argument("orderId", required=True, location="json")

    class Orders(Resource):
        def post(self) -> Any:
            return {"order": parser.parse_args()["orderId"]}, 201

    Api(app).add_resource(Orders, "/orders")
    return lambda client: [client.post("/orders", **JSON), client.post("/orders", json={})]


def apiflask(attach: Attach) -> Use:
    from apiflask import APIFlask, Schema
    from apiflask.fields import Integer, String

    app = attach.new(APIFlask)

    class Order(Schema):
        orderId = String(required=True)  # noqa: N815 - the field's name
        quantity = Integer()

    @app.post("/orders")
    @app.input(Order)
    @app.output(Order, status_code=201)
    def orders(json_data: dict[str, Any]) -> Any:
        return json_data

    return lambda client: [
        client.post("/orders", **JSON),
        client.post("/orders", json={"quantity": "x"}),
        client.get("/openapi.json"),
    ]


def flask_openapi3(attach: Attach) -> Use:
    from flask_openapi3 import OpenAPI
    from pydantic import BaseModel

    app = attach.new(OpenAPI)

    class Order(BaseModel):
        orderId: str  # noqa: N815 - the field's name
        quantity: int = 1

    def orders(body: Order) -> Any:
        return {"order": body.orderId}, 201

    # Its decorator looks annotations up by name, which this module keeps as text.
    orders.__annotations__ = {"body": Order}
    app.post("/orders")(orders)
    return lambda client: [client.post("/orders", **JSON), client.post("/orders", json={})]


def connexion(attach: Attach) -> Use:
    import connexion

    (attach.folder / "openapi.yaml").write_text("""
openapi: 3.0.0
info: { title: shop, version: "1" }
paths:
  /orders:
    post:
      operationId: orders
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              required: [orderId]
              properties: { orderId: { type: string } }
      responses: { "201": { description: created } }
""")
    app = attach.new(connexion.FlaskApp, "shop", specification_dir=str(attach.folder))

    def orders(body: dict[str, Any]) -> Any:
        return {"order": body["orderId"], "bytes": len(request.get_data())}, 201

    app.add_api("openapi.yaml", resolver=connexion.Resolver(lambda _name: orders))

    def use(_client: Client) -> Answers:
        # connexion keeps the wsgi_app that it found: docs/works-with.md.
        app.add_wsgi_middleware(lambda _found: app.app.wsgi_app)
        with app.test_client() as client:
            return [
                client.post("/orders", content=BODY, headers={"Content-Type": "application/json"}),
                client.post("/orders", json={}),
            ]

    return use


def webargs(attach: Attach) -> Use:
    from webargs import fields
    from webargs.flaskparser import use_args

    app = attach.new()

    @app.post("/orders")
    @use_args({"orderId": fields.Str(required=True), "quantity": fields.Int()})
    def orders(order: dict[str, Any]) -> Any:
        return order, 201

    return lambda client: [client.post("/orders", **JSON), client.post("/orders", json={})]


def flask_marshmallow(attach: Attach) -> Use:
    from flask_marshmallow import Marshmallow

    app = attach.new()
    ma = Marshmallow(app)

    class Order(ma.Schema):
        orderId = ma.String(required=True)  # noqa: N815 - the field's name
        quantity = ma.Integer()

    @app.post("/orders")
    def orders() -> Any:
        return Order().load(request.get_json())

    return lambda client: [client.post("/orders", **JSON)]


def flask_limiter(attach: Attach) -> Use:
    from flask_limiter import Limiter

    app = attach.new()
    # By a part of the body: limited by customer.
    limiter = Limiter(
        lambda: request.get_json()["orderId"],
        app=app,
        storage_uri="memory://",
        headers_enabled=True,
    )
    app.post("/orders")(limiter.limit("2/hour")(create))
    return lambda client: [client.post("/orders", **JSON) for _ in range(3)]


def flask_cors(attach: Attach) -> Use:
    from flask_cors import CORS

    app = attach.new()
    CORS(app, expose_headers=["X-Total"])
    app.post("/orders")(create)
    origin = {"Origin": "https://shop.example"}
    asked = origin | {"Access-Control-Request-Method": "POST"}
    return lambda client: [
        client.options("/orders", headers=asked),
        client.post("/orders", headers=origin, **JSON),
    ]


def flask_caching(attach: Attach) -> Use:
    from flask_caching import Cache

    app = attach.new()
    cache = Cache(app, config={"CACHE_TYPE": "SimpleCache"})
    made: list[int] = []

    def key() -> str:
        return hashlib.sha256(request.get_data()).hexdigest()

    @app.post("/orders")
    @cache.cached(make_cache_key=lambda *_, **__: key())
    def orders() -> Any:
        made.append(1)
        return f"{request.get_json()['orderId']} {len(made)}"

    return lambda client: [
        client.post("/orders", **JSON),
        client.post("/orders", **JSON),
        client.post("/orders", json={"orderId": "ORD2"}),
    ]


def flask_sqlalchemy(attach: Attach) -> Use:
    import sqlalchemy
    from flask_sqlalchemy import SQLAlchemy

    app = attach.new()
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{attach.folder / 'shop.db'}"
    db = SQLAlchemy(app)
    table = sqlalchemy.Table("orders", db.metadata, sqlalchemy.Column("id", sqlalchemy.String))
    with app.app_context():
        db.drop_all()
        db.create_all()

    @app.post("/orders")
    def orders() -> Any:
        db.session.execute(table.insert(), {"id": request.get_json()["orderId"]})
        db.session.commit()
        return {"all": list(db.session.scalars(sqlalchemy.select(table.c.id)))}

    def use(client: Client) -> Answers:
        answers = [client.post("/orders", **JSON), client.post("/orders", **JSON)]
        with app.app_context():
            db.engine.dispose()
        return answers

    return use


def flask_migrate(attach: Attach) -> Use:
    from flask_migrate import Migrate
    from flask_sqlalchemy import SQLAlchemy

    app = attach.new()
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db = SQLAlchemy(app)
    Migrate(app, db)
    app.post("/orders")(create)

    def use(client: Client) -> Answers:
        told = app.test_cli_runner().invoke(args=["db", "--help"])
        assert told.exit_code == 0
        return [client.post("/orders", **JSON)]

    return use


def flask_session(attach: Attach) -> Use:
    from cachelib import FileSystemCache
    from flask_session import Session

    app = attach.new()
    app.config["SESSION_TYPE"] = "cachelib"
    app.config["SESSION_CACHELIB"] = FileSystemCache(str(attach.folder / f"s-{attach.when}"))
    Session(app)

    @app.post("/orders")
    def orders() -> Any:
        session["orders"] = [*session.get("orders", []), request.get_json()["orderId"]]
        return {"all": session["orders"]}

    return lambda client: [client.post("/orders", **JSON), client.post("/orders", **JSON)]


def flask_compress(attach: Attach) -> Use:
    from flask_compress import Compress

    app = attach.new()
    app.config["COMPRESS_MIN_SIZE"] = 10
    Compress(app)

    @app.post("/orders")
    def orders() -> Any:
        return {"text": request.get_data(as_text=True) * 20}

    return lambda client: [client.post("/orders", headers={"Accept-Encoding": "gzip"}, **JSON)]


def flask_admin(attach: Attach) -> Use:
    from flask_admin import Admin, BaseView, expose
    from flask_babel import Babel

    app = attach.new()
    Babel(app)  # which Flask-Admin uses where it is installed

    class Orders(BaseView):
        @expose("/", methods=["GET", "POST"])
        def index(self) -> Any:
            return {"order": request.form["orderId"]} if request.form else "list"

    Admin(app).add_view(Orders(endpoint="orders", url="/orders"))
    return lambda client: [
        client.get("/orders/"),
        client.post("/orders/", data={"orderId": "ORD1"}),
        client.get("/admin/"),
    ]


def flask_httpauth(attach: Attach) -> Use:
    from flask_httpauth import HTTPBasicAuth, HTTPDigestAuth

    app = attach.new()
    basic, digest = HTTPBasicAuth(), HTTPDigestAuth()
    basic.verify_password(lambda name, password: name if password == "sesame" else None)
    digest.get_password(lambda _name: "sesame")
    app.post("/orders")(basic.login_required(create))
    app.post("/digest", endpoint="digest")(digest.login_required(create))
    return lambda client: [
        client.post("/orders", **JSON),
        client.post("/orders", auth=("ann", "sesame"), **JSON),
    ]


def flask_jwt_extended(attach: Attach) -> Use:
    from flask_jwt_extended import JWTManager, create_access_token, get_jwt_identity, jwt_required

    app = attach.new()
    app.config["JWT_SECRET_KEY"] = "thirty-two bytes of not a secret"
    app.config["JWT_TOKEN_LOCATION"] = ["headers", "json"]
    JWTManager(app)

    @app.post("/orders")
    @jwt_required()
    def orders() -> Any:
        return {"by": get_jwt_identity(), "order": request.get_json()["orderId"]}

    def use(client: Client) -> Answers:
        with app.app_context():
            token = create_access_token("ann")
        return [
            client.post("/orders", **JSON),
            client.post("/orders", headers={"Authorization": f"Bearer {token}"}, **JSON),
            client.post("/orders", json={**ORDER, "access_token": token}),
        ]

    return use


def flask_talisman(attach: Attach) -> Use:
    from flask_talisman import Talisman

    app = attach.new()
    Talisman(app)
    app.post("/orders")(create)
    return lambda client: [
        client.get("/orders"),
        client.post("/orders", base_url="https://localhost", **JSON),
    ]


def flask_babel(attach: Attach) -> Use:
    from flask_babel import Babel, format_decimal

    app = attach.new()
    Babel(app, locale_selector=lambda: request.get_json()["locale"])

    @app.post("/orders")
    def orders() -> Any:
        return {"price": format_decimal(1234.5)}

    return lambda client: [
        client.post("/orders", json={**ORDER, "locale": "de"}),
        client.post("/orders", json={**ORDER, "locale": "en"}),
    ]


def flask_debugtoolbar(attach: Attach) -> Use:
    from flask_debugtoolbar import DebugToolbarExtension

    app = attach.new()
    app.debug = True
    app.config["DEBUG_TB_INTERCEPT_REDIRECTS"] = False
    DebugToolbarExtension(app)

    @app.post("/orders")
    def orders() -> Any:
        return f"<html><body>{request.get_json()['orderId']}</body></html>"

    def use(client: Client) -> Answers:
        answer = client.post("/orders", **JSON)
        shown, toolbar, _ = answer.get_data().partition(b'<div id="flDebug"')
        assert toolbar
        answer.set_data(shown)  # the toolbar has times of its own
        return [answer]

    return use


def flask_security(attach: Attach) -> Use:
    from flask_security import Security, SQLAlchemyUserDatastore, auth_required, hash_password
    from flask_security.models import fsqla_v3
    from flask_sqlalchemy import SQLAlchemy

    app = attach.new()
    app.config.update(
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{attach.folder / attach.when}.db",
        SECURITY_PASSWORD_SALT="salt",
        SECURITY_PASSWORD_HASH="plaintext",
        SECURITY_PASSWORD_SCHEMES=["plaintext"],
        SECURITY_EMAIL_VALIDATOR_ARGS={"check_deliverability": False},
        WTF_CSRF_ENABLED=False,
    )
    db = SQLAlchemy(app)
    fsqla_v3.FsModels.set_db_info(db)
    role = type("Role", (db.Model, fsqla_v3.FsRoleMixin), {})
    user = type("User", (db.Model, fsqla_v3.FsUserMixin), {})
    security = Security(app, SQLAlchemyUserDatastore(db, user, role))
    with app.app_context():
        db.create_all()
        security.datastore.create_user(
            email="ann@example.com", password=hash_password("sesame-123"), fs_uniquifier="1"
        )
        db.session.commit()
    app.post("/orders")(auth_required("session", "token")(create))

    def use(client: Client) -> Answers:
        credentials = {"email": "ann@example.com", "password": "sesame-123"}
        said = client.post("/login?include_auth_token", json=credentials)
        assert said.status_code == 200, said.text
        token = said.json["response"]["user"]["authentication_token"]
        answers = [
            app.test_client().post("/orders", headers={"Accept": "application/json"}, **JSON),
            client.post("/orders", headers={"Authentication-Token": token}, **JSON),
        ]
        with app.app_context():
            db.engine.dispose()
        return answers

    return use


def prometheus_flask_exporter(attach: Attach) -> Use:
    from prometheus_client import CollectorRegistry
    from prometheus_flask_exporter import PrometheusMetrics

    app = attach.new()
    metrics = PrometheusMetrics(app, registry=CollectorRegistry())
    app.post("/orders")(
        metrics.counter("orders", "Orders", labels={"o": lambda: request.get_json()["orderId"]})(
            create
        )
    )

    def use(client: Client) -> Answers:
        answer = client.post("/orders", **JSON)
        assert 'orders_total{o="ORD1"} 1.0' in client.get("/metrics").text
        return [answer]

    return use


QUERY = {"query": '{ order(id: "ORD1") }', "orderId": "ORD1"}


def graphene(attach: Attach) -> Use:
    import graphene

    app = attach.new()

    class Query(graphene.ObjectType):
        order = graphene.String(id=graphene.String())

        def resolve_order(self, _info: Any, id: str) -> str:  # noqa: A002 - the argument's name
            return f"{id} {g.trace.ids if 'trace' in g else ''}"[:4]

    schema = graphene.Schema(query=Query)

    @app.post("/orders")
    def graphql() -> Any:
        return jsonify(schema.execute(request.get_json()["query"]).data)

    return lambda client: [client.post("/orders", json=QUERY)]


def strawberry(attach: Attach) -> Use:
    import strawberry
    from strawberry.flask.views import GraphQLView

    app = attach.new()

    def order(id: str) -> str:  # noqa: A002 - the argument's name
        return f"{id} {len(request.get_data())}"

    order.__annotations__ = {"id": str, "return": str}
    query = strawberry.type(type("Query", (), {"order": strawberry.field(resolver=order)}))
    schema = strawberry.Schema(query=query)
    app.add_url_rule("/orders", view_func=GraphQLView.as_view("graphql", schema=schema))
    return lambda client: [client.post("/orders", json=QUERY), client.post("/orders", json={})]


def sentry_sdk(attach: Attach) -> Use:
    import sentry_sdk
    from sentry_sdk.integrations.flask import FlaskIntegration

    events: list[Any] = []
    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1",
        integrations=[FlaskIntegration()],
        default_integrations=False,
        max_request_body_size="always",
        before_send=lambda event, _hint: events.append(event),
    )
    app = attach.new()

    @app.post("/orders")
    def orders() -> Any:
        sentry_sdk.capture_message("seen")
        return {"order": request.get_json()["orderId"]}

    def use(client: Client) -> Answers:
        answer = client.post("/orders", **JSON)
        sentry_sdk.get_client().close()
        sentry_sdk.init()
        assert [event["request"]["data"] for event in events] == [ORDER]
        return [answer]

    return use


def elastic_apm(attach: Attach) -> Use:
    from elasticapm.contrib.flask import ElasticAPM

    app = attach.new()
    app.config["ELASTIC_APM"] = {
        "TRANSPORT_CLASS": "benchmarks.elastic_transport.Discard",
        "CAPTURE_BODY": "all",
        "METRICS_INTERVAL": "0ms",
        "CENTRAL_CONFIG": False,
        "CLOUD_PROVIDER": False,
        "INSTRUMENT": False,
    }
    apm = ElasticAPM(app)
    app.post("/orders")(create)

    def use(client: Client) -> Answers:
        answer = client.post("/orders", **JSON)
        apm.client.close()
        return [answer]

    return use


CASES: dict[str, Callable[[Attach], Use]] = {
    "Flask-Login": flask_login,
    "Flask-WTF": flask_wtf,
    "flask-restx": flask_restx,
    "flask-smorest": flask_smorest,
    "Flask-RESTful": flask_restful,
    "APIFlask": apiflask,
    "flask-openapi3": flask_openapi3,
    "connexion": connexion,
    "webargs": webargs,
    "flask-marshmallow": flask_marshmallow,
    "Flask-Limiter": flask_limiter,
    "flask-cors": flask_cors,
    "Flask-Caching": flask_caching,
    "Flask-SQLAlchemy": flask_sqlalchemy,
    "Flask-Migrate": flask_migrate,
    "Flask-Session": flask_session,
    "Flask-Compress": flask_compress,
    "Flask-Admin": flask_admin,
    "Flask-HTTPAuth": flask_httpauth,
    "Flask-JWT-Extended": flask_jwt_extended,
    "flask-talisman": flask_talisman,
    "flask-babel": flask_babel,
    "Flask-DebugToolbar": flask_debugtoolbar,
    "Flask-Security-Too": flask_security,
    "prometheus-flask-exporter": prometheus_flask_exporter,
    "graphene": graphene,
    "strawberry-graphql": strawberry,
    "sentry-sdk": sentry_sdk,
    "elastic-apm": elastic_apm,
}
"""Distributions, by their names on the package index."""

OURS = {"x-trace-id", "x-span-id", "x-parent-span-id"}
# What differs between two runs of the same.
VARIES = {"date", "set-cookie", "content-security-policy", "retry-after", "x-ratelimit-reset"}


FOR_GOOD = {"sentry-sdk"}
"""These patch Flask itself, for all applications of a process: each has one of its own."""
_ALONE = "BODYTRACE_TEST_ALONE"


def plain(answer: Any) -> tuple[int, dict[str, str], str]:
    """What of an answer has to be the same with and without the extension."""
    headers = {
        name.lower(): value
        for name, value in answer.headers.items()
        if name.lower() not in OURS | VARIES
    }
    exposed = headers.get("access-control-expose-headers", "").split(", ")
    if names := [name for name in exposed if name and name.lower() not in OURS]:
        headers["access-control-expose-headers"] = ", ".join(names)
    body = answer.data if isinstance(answer, Response) else answer.content
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
        del headers["content-length"]
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "<uuid>", body.decode())
    return answer.status_code, headers, text


def run(name: str, when: str, folder: Path) -> tuple[Answers, SpanRecorder, Attach]:
    """Use an application with the extension attached `first`, `last` or `never`."""
    attach = Attach(when, folder)
    with capture_spans() as spans, warnings.catch_warnings():
        # Theirs, of what they call that is deprecated.
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", module="flask_bodytrace")
        use = CASES[name](attach)
        attach.finish()
        answers = use(attach.app.test_client())
    return answers, spans, attach


@pytest.mark.parametrize("when", ["first", "last"])
@pytest.mark.parametrize("name", CASES)
def test_answers_are_those_of_stock_and_the_request_is_traced(
    name: str, when: str, tmp_path: Path
) -> None:
    if name in FOR_GOOD and _ALONE not in os.environ:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
        done = subprocess.run(
            [*command, "-k", f"{name}-{when} or {when}-{name}"],
            env={**os.environ, _ALONE: "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return
    stock, no_spans, _ = run(name, "never", tmp_path)
    answers, spans, _ = run(name, when, tmp_path)
    assert [plain(answer) for answer in answers] == [plain(answer) for answer in stock]
    assert not no_spans.finished
    assert all(answer.status_code < 500 for answer in answers)
    assert all("X-Trace-ID" in answer.headers for answer in answers if answer.status_code == 200)
    found = [span.attributes or {} for span in spans.finished if "POST /orders" in span.name]
    captured = [
        str(attributes["http.request.body.content"])
        for attributes in found
        if attributes.get("order.id") == "ORD1"
    ]
    assert captured, spans.tree()
    assert "ORD1" in captured[-1]
