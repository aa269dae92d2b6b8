"""The description for the package index; everything else is in setup.cfg.

The README's links lead to files of the checkout, which the index does not show: there they lead to
`DOCS_URL`, or, as long as that is empty, lose their targets and keep their text.
"""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent


def for_the_index(text: str, docs_url: str) -> str:
    """The README as the index shows it: no link that leads nowhere, no comment."""
    text = re.sub(r"<!--.*?-->\n*", "", text, flags=re.DOTALL)

    def fit(link: re.Match[str]) -> str:
        image, name, target = link.groups()
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        page = page_of(target)
        if docs_url and page:
            return f"{image}[{name}]({docs_url.rstrip('/')}/{page})"
        return "" if image else name

    pieces = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    # Every second piece is code.
    for number in range(0, len(pieces), 2):
        fitted = re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", fit, pieces[number])
        pieces[number] = re.sub(r"\n{3,}", "\n\n", fitted)
    return "".join(pieces)


def page_of(target: str) -> str | None:
    """Where the site has a file of the checkout (docs/outside_pages.py); None if it does not."""
    path, hash_, anchor = target.partition("#")
    if path.startswith("docs/"):
        path = path.removeprefix("docs/")
    elif path.startswith("benchmarks/"):
        pass
    elif re.fullmatch(r"(ARCHITECTURE|CHANGELOG|CONTRIBUTING|SECURITY)\.md", path):
        path = path.lower()
    else:
        return None
    return re.sub(r"\.md$", ".html", path) + hash_ + anchor


def docs_url() -> str:
    """`DOCS_URL`, without importing the package."""
    version = (HERE / "flask_bodytrace/version.py").read_text("utf-8")
    found = re.search(r'^DOCS_URL = "(.*)"$', version, re.MULTILINE)
    return found[1] if found else ""


if __name__ == "__main__":
    setup(
        long_description=for_the_index((HERE / "README.md").read_text("utf-8"), docs_url()),
        long_description_content_type="text/markdown",
    )
