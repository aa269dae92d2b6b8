"""Whether manifests are as their schemas say, and have no field that those do not know."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import kubernetes_validate
import yaml

from example_app.deploy.checks.rendered import title

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from example_app.deploy.checks.rendered import Manifest

SCHEMAS = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flask_bodytrace" / "schemas"
)
_CUSTOM = {"argoproj.io": ("argo-cd", "argo-rollouts"), "istio.io": ("istio",)}


class NoSchemas(Exception):
    """The schemas of Istio and Argo are not here; the message says how to get them."""


def problems(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield a sentence for each manifest that is not as it has to be."""
    for manifest in manifests:
        group = manifest["apiVersion"].rpartition("/")[0]
        files = next((it for end, it in _CUSTOM.items() if group.endswith(end)), None)
        if files is None:
            yield from _of_kubernetes(manifest)
        else:
            yield from _of_others(manifest, files)


def _of_kubernetes(manifest: Manifest) -> Iterator[str]:
    version = kubernetes_validate.latest_version()
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except (
        kubernetes_validate.ValidationError,
        kubernetes_validate.SchemaNotFoundError,
    ) as error:
        where = ".".join(str(part) for part in getattr(error, "path", ()))
        yield f"{title(manifest)}: {where}: {getattr(error, 'message', error)}"


def _of_others(manifest: Manifest, files: tuple[str, ...]) -> Iterator[str]:
    version = manifest["apiVersion"].rpartition("/")[2]
    schema = next(
        (found for name in files if (found := _custom(name).get((manifest["kind"], version)))), None
    )
    if schema is None:
        yield f"{title(manifest)}: there is no {manifest['kind']} in {manifest['apiVersion']}"
        return
    for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest):
        where = ".".join(str(part) for part in error.absolute_path)
        yield f"{title(manifest)}: {where}: {error.message[:300]}"


@cache
def _custom(name: str) -> dict[tuple[str, str], Any]:
    """The schemas of one file of custom resources, by kind and version."""
    path = SCHEMAS / f"{name}.yaml"
    if not path.exists():
        raise NoSchemas(f"{path} is not there: bash example_app/deploy/get_servers schemas")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found = {}
    for each in yaml.load_all(path.read_text("utf-8"), Loader=loader):
        for version in each["spec"]["versions"] if each else ():
            schema = _strict(version["schema"]["openAPIV3Schema"])
            # What is common to all: a cluster checks that itself.
            schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
            found[each["spec"]["names"]["kind"], version["name"]] = schema
    return found


def _strict(schema: Any) -> Any:
    """Return a JSON Schema, of OpenAPI's, that takes no field it does not name."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value) for key, value in schema.items() if key != "format"}
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    is_open = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and "type" in schema and not is_open:
        made.setdefault("additionalProperties", False)
    return made
