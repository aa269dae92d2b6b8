"""The manifests, rendered and looked through without a cluster; a fault in them is found."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from example_app import labels
from example_app.deploy.checks import __main__ as checks
from example_app.deploy.checks import rendered, schemas
from example_app.deploy.checks.references import References
from example_app.deploy.checks.rendered import Manifest
from tests.example_app.programs import without

pytestmark = pytest.mark.slow

Change = Callable[[dict[str, Manifest]], object]


@pytest.fixture(scope="module", params=rendered.OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> list[Manifest]:
    return manifests(request.param)


@pytest.fixture
def production(all_of_production: list[Manifest]) -> dict[str, Manifest]:
    """By kind and name, to be changed by a test."""
    return {rendered.title(it): copy.deepcopy(it) for it in all_of_production}


@pytest.fixture(scope="module")
def all_of_production() -> list[Manifest]:
    return manifests("production") + rendered.application()


def manifests(name: str) -> list[Manifest]:
    try:
        return rendered.overlay(name)
    except rendered.NotRendered as error:
        if "not there" in str(error):
            without("kubectl", str(error))
        raise


def of_schemas(manifests: Sequence[Manifest]) -> list[str]:
    try:
        return list(schemas.problems(manifests))
    except schemas.NoSchemas as error:
        without("schemas", str(error))


def test_every_overlay_is_as_the_schemas_say(overlay: list[Manifest]) -> None:
    assert of_schemas(overlay) == []
    assert of_schemas(rendered.application()) == []


def test_everything_that_is_referred_to_is_there(overlay: list[Manifest]) -> None:
    assert list(References(overlay).problems()) == []


def test_argo_cd_is_given_what_is_there(all_of_production: list[Manifest]) -> None:
    assert list(References(all_of_production).problems()) == []


def pod(everything: dict[str, Manifest], name: str = "orders") -> dict[str, Any]:
    spec: dict[str, Any] = everything[f"Deployment/{name}"]["spec"]["template"]["spec"]
    return spec


def container(everything: dict[str, Manifest]) -> dict[str, Any]:
    first: dict[str, Any] = pod(everything)["containers"][0]
    return first


def spec(everything: dict[str, Manifest], title: str) -> Any:
    return everything[title]["spec"]


def settings(everything: dict[str, Manifest]) -> Any:
    return next(it for name, it in everything.items() if name.startswith("ConfigMap/settings"))[
        "data"
    ]


DANGLING: list[tuple[str, Change]] = [
    ("Deployment/orders: nothing reads EXAMPLE_BASES",
     lambda it: container(it)["env"].append({"name": "EXAMPLE_BASES", "value": "1"})),
    ("nothing reads EXAMPLE_CACHES", lambda it: settings(it).update(EXAMPLE_CACHES="redis://a")),
    ("there is no Service oders",
     lambda it: settings(it).update(
         EXAMPLE_SERVICES=settings(it)["EXAMPLE_SERVICES"].replace("//orders:", "//oders:"))),
    ("the Service orders has no port 8011",
     lambda it: settings(it).update(
         EXAMPLE_SERVICES=settings(it)["EXAMPLE_SERVICES"].replace("orders:8001", "orders:8011"))),
    ("EXAMPLE_SERVICES has ['orders'], not",
     lambda it: settings(it).update(EXAMPLE_SERVICES="orders=http://orders:8001")),
    ("Deployment/orders: there is no urls in a Secret database",
     lambda it: next(
         each for each in container(it)["env"] if each["name"] == "EXAMPLE_DATABASES"
     )["valueFrom"]["secretKeyRef"].update(name="database")),
    ("there is no ConfigMap setings",
     lambda it: container(it)["envFrom"][0]["configMapRef"].update(name="setings")),
    ("Deployment/orders: there is no volume dta",
     lambda it: container(it)["volumeMounts"][0].update(name="dta")),
    ("Deployment/inventory: there is no claim stock",
     lambda it: pod(it, "inventory")["volumes"][0]["persistentVolumeClaim"].update(
         claimName="stock")),
    ("livenessProbe asks", lambda it: container(it)["livenessProbe"]["httpGet"].update(path="/up")),
    ("readinessProbe asks",
     lambda it: container(it)["readinessProbe"]["httpGet"].update(port="web")),
    ("gunicorn is told to serve order, which is no service",
     lambda it: container(it)["args"].__setitem__(-1, "example_app.wsgi:order")),
    ("gunicorn listens on 8000, which is no port",
     lambda it: container(it)["args"].__setitem__(-2, "--bind=0.0.0.0:8000")),
    ("Service/orders: no pod has the labels {'app': 'order'}",
     lambda it: spec(it, "Service/orders").update(selector={"app": "order"})),
    ("has no port 'web'",
     lambda it: spec(it, "Service/orders")["ports"][0].update(targetPort="web")),
    ("NetworkPolicy/orders: no pod has the labels {'app': 'pay'}",
     lambda it: spec(it, "NetworkPolicy/orders")["ingress"][0]["from"][1].update(
         podSelector={"matchLabels": {"app": "pay"}})),
    ("NetworkPolicy/inventory: a pod",
     lambda it: spec(it, "NetworkPolicy/inventory")["ingress"][1].update(ports=[{"port": "rpc"}])),
    ("PodDisruptionBudget/orders: no pod",
     lambda it: spec(it, "PodDisruptionBudget/orders").update(selector={"app": "order"})),
    ("HorizontalPodAutoscaler/orders: there is no Rollout order",
     lambda it: spec(it, "HorizontalPodAutoscaler/orders")["scaleTargetRef"].update(name="order")),
    ("VirtualService/orders: orders has no subset new",
     lambda it: spec(it, "VirtualService/orders")["http"][0]["route"][0]["destination"].update(
         subset="new")),
    ("VirtualService/orders: there is no Service order",
     lambda it: spec(it, "VirtualService/orders")["http"][0]["route"][0]["destination"].update(
         host="order")),
    ("the weights of others are [90, 0]: not 100 together",
     lambda it: spec(it, "VirtualService/orders")["http"][2]["route"][0].update(weight=90)),
    ("DestinationRule/orders: there is no Service order",
     lambda it: spec(it, "DestinationRule/orders").update(host="order")),
    ("DestinationRule/orders: no pod has the labels {'version': '2'}",
     lambda it: spec(it, "DestinationRule/orders")["subsets"][1].update(labels={"version": "2"})),
    ("Rollout/orders: there is no Deployment order",
     lambda it: spec(it, "Rollout/orders")["workloadRef"].update(name="order")),
    ("Rollout/orders: there is no AnalysisTemplate none-fail",
     lambda it: spec(it, "Rollout/orders")["strategy"]["canary"]["analysis"].update(
         templates=[{"templateName": "none-fail"}])),
    ("the VirtualService orders has no route weighted",
     lambda it: spec(it, "Rollout/orders")["strategy"]["canary"]["trafficRouting"]["istio"][
         "virtualService"].update(routes=["weighted"])),
    ("the DestinationRule orders has no subset new",
     lambda it: spec(it, "Rollout/orders")["strategy"]["canary"]["trafficRouting"]["istio"][
         "destinationRule"].update(canarySubsetName="new")),
    ("Application/order-system: there is no deploy/kustomization.yaml",
     lambda it: spec(it, "Application/order-system")["source"].update(path="deploy")),
    ("Application/order-system: there is no VirtualService order",
     lambda it: spec(it, "Application/order-system")["ignoreDifferences"][0].update(name="order")),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "change"), DANGLING, ids=[it for it, _ in DANGLING])
def test_a_reference_that_leads_nowhere_is_found(
    production: dict[str, Manifest], problem: str, change: Change
) -> None:
    change(production)
    found = list(References(list(production.values())).problems())
    assert any(problem in each for each in found), found


UNKNOWN: list[tuple[str, Change]] = [
    ("Deployment/orders", lambda it: container(it).update(imagePullPolice="Always")),
    ("Deployment/gateway", lambda it: pod(it, "gateway").update(terminationGracePeriod=5)),
    ("Service/orders", lambda it: spec(it, "Service/orders")["ports"][0].update(port="many")),
    ("VirtualService/orders",
     lambda it: spec(it, "VirtualService/orders")["http"][0].update(mach=1)),
    ("DestinationRule/orders",
     lambda it: spec(it, "DestinationRule/orders")["trafficPolicy"]["outlierDetection"].update(
         consecutive5xx=5)),
    ("Rollout/orders",
     lambda it: spec(it, "Rollout/orders")["strategy"]["canary"]["steps"][0].update(wait=1)),
    ("AnalysisTemplate/few-orders-fail",
     lambda it: spec(it, "AnalysisTemplate/few-orders-fail")["metrics"][0].update(query="1")),
    ("Application/order-system",
     lambda it: spec(it, "Application/order-system")["syncPolicy"].update(automatic=True)),
    ("Application/order-system",
     lambda it: it["Application/order-system"].update(apiVersion="argoproj.io/v1")),
]  # fmt: skip


@pytest.mark.parametrize(("title", "change"), UNKNOWN, ids=range(len(UNKNOWN)))
def test_an_unknown_field_is_found(
    production: dict[str, Manifest], title: str, change: Change
) -> None:
    change(production)
    found = of_schemas([production[title]])
    assert len(found) == 1
    assert found[0].startswith(f"{title}: ")


def test_every_service_runs_as_nobody_in_particular_and_writes_nowhere_else(
    overlay: list[Manifest],
) -> None:
    deployments = [it for it in overlay if it["kind"] == "Deployment"]
    assert len(deployments) == 5
    for deployment in deployments:
        template = deployment["spec"]["template"]["spec"]
        (only,) = template["containers"]
        assert template["securityContext"]["runAsNonRoot"]
        assert not template["automountServiceAccountToken"]
        assert only["securityContext"]["readOnlyRootFilesystem"]
        assert only["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in only["resources"]["limits"]
        assert {it["mountPath"] for it in only["volumeMounts"]} == {"/data", "/tmp"}  # noqa: S108


def test_the_mesh_looks_at_the_header_that_the_services_send(
    production: dict[str, Manifest],
) -> None:
    routes = spec(production, "VirtualService/orders")["http"]
    headers = {name for route in routes for it in route.get("match", ()) for name in it["headers"]}
    assert headers == {labels.HEADER.lower()}
    matched = {
        route["match"][0]["headers"][labels.HEADER.lower()]["exact"]: route["route"][0][
            "destination"
        ]["subset"]
        for route in routes[:2]
    }
    assert matched == {label: label for label in labels.LABELS}


def test_argo_cd_brings_what_is_needed_before_what_needs_it(
    production: dict[str, Manifest],
) -> None:
    def wave(title: str) -> int:
        return int(production[title]["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"])

    order = [
        "Namespace/shop", "PersistentVolumeClaim/inventory", "Deployment/inventory",
        "VirtualService/orders", "Rollout/orders",
    ]  # fmt: skip
    assert [wave(it) for it in order] == sorted({wave(it) for it in order})
    assert wave("Deployment/gateway") > wave("Deployment/orders") > wave("Deployment/payments")


def test_the_command_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    monkeypatch.setattr(schemas, "SCHEMAS", tmp_path)
    schemas._custom.cache_clear()
    assert checks.main() == 2
    assert "bash example_app/deploy/get_servers schemas" in capsys.readouterr().err
    monkeypatch.setattr(schemas, "problems", lambda _manifests: ["it is wrong"])
    assert checks.main() == 1
    assert "production: it is wrong" in capsys.readouterr().out
    monkeypatch.setattr(rendered, "KUBERNETES", tmp_path)
    assert checks.main() == 2
    assert "one-node" in capsys.readouterr().err
