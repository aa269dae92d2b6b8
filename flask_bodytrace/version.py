"""The version, and where the documentation is; the one place that says either."""

__version__ = "0.9.0"

DOCS_URL = ""
"""Address of the documentation's site; empty as long as it is nowhere public.

Messages then name the page. A release with an address sets it here, and ``project_urls`` in
setup.cfg.
"""


def docs_page(title: str, path: str) -> str:
    """Where a message sends its reader.

    :param title: the page's, as its navigation shows it.
    :param path: of its file below docs/, such as ``settings.md#captured-bodies``.
    """
    if not DOCS_URL:
        return f"the page «{title}» of the documentation"
    return f"{DOCS_URL.rstrip('/')}/{path.replace('.md', '.html', 1)}"
