"""Render every overlay and check it: schemas, unknown fields, references."""

from __future__ import annotations

import sys

from example_app.deploy.checks import rendered, schemas
from example_app.deploy.checks.references import References


def main() -> int:
    """Print what is wrong; 1 if anything is."""
    found = []
    try:
        for name in rendered.OVERLAYS:
            manifests = rendered.overlay(name)
            if name == "production":
                manifests += rendered.application()
            problems = [*schemas.problems(manifests), *References(manifests).problems()]
            print(f"{name}: {len(manifests)} manifests, {len(problems)} problems")
            found += [f"{name}: {problem}" for problem in problems]
    except (rendered.NotRendered, schemas.NoSchemas) as error:
        print(f"cannot check: {error}", file=sys.stderr)
        return 2
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
