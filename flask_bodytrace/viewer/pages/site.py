"""What every page needs: the store, the templates, addresses, and one look for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from werkzeug.exceptions import NotFound
from werkzeug.routing import MapAdapter
from werkzeug.wrappers import Request, Response

from flask_bodytrace.viewer import display, texts
from flask_bodytrace.viewer.access import Access
from flask_bodytrace.viewer.store import Trace, TraceStore
from flask_bodytrace.viewer.streams import Streams
from flask_bodytrace.viewer.terms import asking_for

FOLDER = Path(__file__).parents[1]
LANGUAGE_COOKIE = "bodytrace_language"
THEME_COOKIE = "bodytrace_theme"
THEMES = ("light", "dark")
_COLOURS = 10
_MODULES = sorted(path.name for path in (FOLDER / "static").glob("*.js"))
"""The script's files: fetched at once, not one after the other as they import each other."""


class Site:
    """What all visits share."""

    def __init__(self, store: TraceStore, access: Access, *, receives: bool = False) -> None:
        self.store = store
        self.access = access
        self.receives = receives
        self.streams = Streams()
        self.templates = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.filters |= {
            "duration": display.duration,
            "clock": display.clock,
            "day": display.day,
            "iso": display.iso,
            "text": display.text,
            "embedded": _embedded,
            "query": _query,
            "asking": lambda pair: asking_for(*pair),
        }
        self._colours: dict[str, int] = {}

    def colour(self, service: str) -> str:
        """The class that gives a service its colour, the same on every page."""
        number = self._colours.setdefault(service, len(self._colours) % _COLOURS)
        if len(self._colours) > 10_000:
            self._colours.clear()
        return f"c{number}"


@dataclass(frozen=True, slots=True)
class Visit:
    """One request to a page."""

    site: Site
    request: Request
    urls: MapAdapter

    @property
    def store(self) -> TraceStore:
        """The traces to show."""
        return self.site.store

    @property
    def language(self) -> str:
        """The language of the page: the one chosen, else the browser's."""
        chosen = self.request.cookies.get(LANGUAGE_COOKIE, "")
        if chosen in texts.LANGUAGES:
            return chosen
        return self.request.accept_languages.best_match(texts.LANGUAGES, "en") or "en"

    @property
    def theme(self) -> str:
        """``light`` or ``dark`` where one was chosen; else the browser decides."""
        chosen = self.request.cookies.get(THEME_COOKIE, "")
        return chosen if chosen in THEMES else ""

    def find(self, trace_id: str) -> Trace:
        """One trace.

        :raises NotFound: it is not, or no longer, here.
        """
        trace = self.store.trace(trace_id.lower())
        if trace is None:
            raise NotFound(
                "This trace is not in the store. It was never received, or it was the oldest when "
                "room was needed."
            )
        return trace

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """A page, or a part of one, from its template."""
        language = self.language
        html = self.site.templates.get_template(template).render(
            t=texts.texts_of(language),
            language=language,
            languages=texts.LANGUAGES,
            modules=_MODULES,
            theme=self.theme,
            here_again=self.request.script_root + self.request.full_path.rstrip("?"),
            script_texts=texts.for_script(language),
            url=partial(_link, self.urls),
            colour=self.site.colour,
            store=self.store,
            receives=self.site.receives,
            needs_token=self.site.access.needs_token,
            **values,
        )
        # Names may hold what no encoding does: half a surrogate pair.
        return Response(
            html.encode(errors="replace"), status, content_type="text/html; charset=utf-8"
        )


def _query(arguments: Mapping[str, Any]) -> str:
    """As a query string; a list is an argument several times, and what is empty is left out."""
    given = {name: value for name, value in arguments.items() if value}
    return urlencode(given, doseq=True, errors="replace")


def _embedded(text: str) -> Markup:
    """Data within a <template>: quotes, of which JSON is full, mean nothing there."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Markup(plain)  # noqa: S704 - escaped just above


def _link(urls: MapAdapter, page: str, arguments: Mapping[str, Any] | None = None) -> str:
    """The address of a page; what no encoding holds, half a surrogate pair, becomes ``?``."""
    encodable = {
        name: value.encode(errors="replace").decode() if isinstance(value, str) else value
        for name, value in (arguments or {}).items()
    }
    return urls.build(page, encodable)
