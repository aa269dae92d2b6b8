"""Whether what manifests refer to is there: services, ports, labels, keys, files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from example_app.bootstrap import INVENTORY_GRPC, Surroundings
from example_app.deploy.checks.rendered import title
from example_app.wsgi import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from example_app.deploy.checks.rendered import Manifest

SECRETS = {"payment": {"key"}, "databases": {"urls"}}
"""Secrets that are kept elsewhere, and their keys."""

PATHS = {"/health", "/ready"}
_ROOT = Path(__file__).parents[3]
_OTEL = re.compile(r"OTEL_[A-Z_]+")


def settings() -> set[str]:
    """The environment variables of the example's own that it reads."""
    return set(Surroundings(Path(), {}, b"").environment())


@dataclass
class References:
    """The manifests of one overlay, to be looked through.

    :param known: the names of settings that the example reads.
    """

    manifests: Sequence[Manifest]
    known: set[str] = field(default_factory=settings)

    def problems(self) -> Iterator[str]:
        """Yield a sentence for each reference that leads nowhere."""
        looks = {
            "Deployment": self._deployment,
            "Service": self._service,
            "ConfigMap": self._config_map,
            "NetworkPolicy": self._network_policy,
            "PodDisruptionBudget": self._budget,
            "HorizontalPodAutoscaler": self._autoscaler,
            "VirtualService": self._virtual_service,
            "DestinationRule": self._destination_rule,
            "Rollout": self._rollout,
            "Application": self._application,
        }
        for manifest in self.manifests:
            look = looks.get(manifest["kind"])
            for problem in look(manifest.get("spec", manifest)) if look else ():
                yield f"{title(manifest)}: {problem}"

    # Looking things up.

    def _of(self, kind: str) -> dict[str, Manifest]:
        return {it["metadata"]["name"]: it for it in self.manifests if it["kind"] == kind}

    def _pods(self, labels: Mapping[str, str]) -> list[Manifest]:
        """The pod templates that have all these labels."""
        templates = [it["spec"]["template"] for it in self._of("Deployment").values()]
        return [it for it in templates if labels.items() <= it["metadata"]["labels"].items()]

    def _selected(self, selector: Mapping[str, Any], ports: Sequence[object] = ()) -> Iterator[str]:
        """Yield what is wrong with the labels, and ports by name, of some pods."""
        labels = selector.get("matchLabels", selector)
        pods = self._pods(labels)
        if not pods:
            yield f"no pod has the labels {labels}"
        for port in ports:
            for pod in pods:
                if port not in _ports(pod):
                    yield f"a pod with the labels {labels} has no port {port!r}"

    # One kind each.

    def _deployment(self, spec: Mapping[str, Any]) -> Iterator[str]:
        pod = spec["template"]
        if not spec["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items():
            yield f"its pods have not the labels {spec['selector']['matchLabels']}"
        volumes = {it["name"]: it for it in pod["spec"].get("volumes", ())}
        for volume in volumes.values():
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and claim not in self._of("PersistentVolumeClaim"):
                yield f"there is no claim {claim}"
        for container in pod["spec"]["containers"]:
            yield from self._container(container, volumes, _ports(pod))

    def _container(
        self, container: Mapping[str, Any], volumes: Mapping[str, Any], ports: set[object]
    ) -> Iterator[str]:
        for mount in container.get("volumeMounts", ()):
            if mount["name"] not in volumes:
                yield f"there is no volume {mount['name']}"
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container.get(name, {}).get("httpGet", {})
            if asked.get("port") not in ports or asked.get("path") not in PATHS:
                yield f"{name} asks {asked}, where nobody answers"
        for source in container.get("envFrom", ()):
            name = source["configMapRef"]["name"]
            if name not in self._of("ConfigMap"):
                yield f"there is no ConfigMap {name}"
        for variable in container.get("env", ()):
            yield from self._setting(variable["name"])
            if secret := variable.get("valueFrom", {}).get("secretKeyRef"):
                made = self._of("Secret").get(secret["name"], {}).get("data", {})
                if secret["key"] not in {*made, *SECRETS.get(secret["name"], ())}:
                    yield f"there is no {secret['key']} in a Secret {secret['name']}"
        yield from _command(container, ports)

    def _service(self, spec: Mapping[str, Any]) -> Iterator[str]:
        yield from self._selected(spec["selector"], [it["targetPort"] for it in spec["ports"]])

    def _config_map(self, manifest: Manifest) -> Iterator[str]:
        data = manifest["data"]
        for name in data:
            yield from self._setting(name)
        pairs = [pair.partition("=") for pair in data.get("EXAMPLE_SERVICES", "").split(",")]
        addresses = {name: address for name, _, address in pairs if name}
        if addresses and set(addresses) != {*NAMES, INVENTORY_GRPC}:
            wanted = sorted({*NAMES, INVENTORY_GRPC})
            yield f"EXAMPLE_SERVICES has {sorted(addresses)}, not {wanted}"
        for address in addresses.values():
            parts = urlsplit(address if "://" in address else f"//{address}")
            service = self._of("Service").get(str(parts.hostname))
            if service is None:
                yield f"there is no Service {parts.hostname}"
            elif parts.port not in {it["port"] for it in service["spec"]["ports"]}:
                yield f"the Service {parts.hostname} has no port {parts.port}"

    def _setting(self, name: str) -> Iterator[str]:
        if name not in self.known and not _OTEL.fullmatch(name):
            yield f"nothing reads {name}"

    def _network_policy(self, spec: Mapping[str, Any]) -> Iterator[str]:
        rules = [*spec.get("ingress", ()), *spec.get("egress", ())]
        named = [
            port["port"]
            for rule in spec.get("ingress", ())
            for port in rule.get("ports", ())
            if isinstance(port["port"], str)
        ]
        if spec["podSelector"]:
            yield from self._selected(spec["podSelector"], named)
        for rule in rules:
            for peer in [*rule.get("from", ()), *rule.get("to", ())]:
                if "podSelector" in peer:
                    yield from self._selected(peer["podSelector"])

    def _budget(self, spec: Mapping[str, Any]) -> Iterator[str]:
        yield from self._selected(spec["selector"])

    def _autoscaler(self, spec: Mapping[str, Any]) -> Iterator[str]:
        target = spec["scaleTargetRef"]
        if target["name"] not in self._of(target["kind"]):
            yield f"there is no {target['kind']} {target['name']}"

    def _virtual_service(self, spec: Mapping[str, Any]) -> Iterator[str]:
        for route in spec["http"]:
            weights = [it.get("weight", 100) for it in route["route"]]
            if sum(weights) != 100:
                yield f"the weights of {route['name']} are {weights}: not 100 together"
            for to in route["route"]:
                host, subset = to["destination"]["host"], to["destination"].get("subset")
                if host not in self._of("Service"):
                    yield f"there is no Service {host}"
                if subset and subset not in self._subsets(host):
                    yield f"{host} has no subset {subset}"

    def _subsets(self, host: str) -> set[str]:
        rules = [it["spec"] for it in self._of("DestinationRule").values()]
        return {
            it["name"] for rule in rules if rule["host"] == host for it in rule.get("subsets", ())
        }

    def _destination_rule(self, spec: Mapping[str, Any]) -> Iterator[str]:
        if spec["host"] not in self._of("Service"):
            yield f"there is no Service {spec['host']}"
        for subset in spec.get("subsets", ()):
            yield from self._selected(subset["labels"])

    def _rollout(self, spec: Mapping[str, Any]) -> Iterator[str]:
        reference, canary = spec["workloadRef"], spec["strategy"]["canary"]
        if reference["name"] not in self._of(reference["kind"]):
            yield f"there is no {reference['kind']} {reference['name']}"
        yield from self._selected(spec["selector"])
        for template in canary["analysis"]["templates"]:
            if template["templateName"] not in self._of("AnalysisTemplate"):
                yield f"there is no AnalysisTemplate {template['templateName']}"
        mesh = canary["trafficRouting"]["istio"]
        service = self._of("VirtualService").get(mesh["virtualService"]["name"])
        routes = {it.get("name") for it in service["spec"]["http"]} if service else set()
        for route in mesh["virtualService"]["routes"]:
            if route not in routes:
                yield f"the VirtualService {mesh['virtualService']['name']} has no route {route}"
        rule = mesh["destinationRule"]
        there = self._of("DestinationRule").get(rule["name"], {"spec": {"host": ""}})
        for subset in (rule["stableSubsetName"], rule["canarySubsetName"]):
            if subset not in self._subsets(there["spec"]["host"]):
                yield f"the DestinationRule {rule['name']} has no subset {subset}"

    def _application(self, spec: Mapping[str, Any]) -> Iterator[str]:
        if not (_ROOT / spec["source"]["path"] / "kustomization.yaml").exists():
            yield f"there is no {spec['source']['path']}/kustomization.yaml"
        for ignored in spec.get("ignoreDifferences", ()):
            names = self._of(ignored["kind"])
            if not names or ("name" in ignored and ignored["name"] not in names):
                yield f"there is no {ignored['kind']} {ignored.get('name', '')}".rstrip()


def _ports(pod: Manifest) -> set[object]:
    """The ports of a pod, by name and by number."""
    ports = [it for each in pod["spec"]["containers"] for it in each.get("ports", ())]
    return {it["name"] for it in ports} | {it["containerPort"] for it in ports}


def _command(container: Mapping[str, Any], ports: set[object]) -> Iterator[str]:
    """Yield what is wrong with how gunicorn is started."""
    arguments = " ".join(container.get("args", ()))
    entry = re.search(r"example_app\.wsgi:(\S+)", arguments)
    if entry is None or entry[1] not in NAMES:
        yield f"gunicorn is told to serve {entry and entry[1]}, which is no service"
    bound = re.search(r"--bind=\S+:(\d+)", arguments)
    if bound is None or int(bound[1]) not in ports:
        yield f"gunicorn listens on {bound and bound[1]}, which is no port of the container"
