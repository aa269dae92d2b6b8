"""The call tree: what one request led to, known from response headers alone.

`call` is one call and those below it; `wire` is how a service passes them on in Server-Timing,
`tree` how a client puts them together again, `render` text, Mermaid and JSON, `export` spans.
`relay` collects the calls of a request being handled, `sessions` watches HTTP clients.

Belongs here: calls of other services. Does not belong here: the request that makes them
(``flow/``), Flask.

May be imported by ``flow/``, `client` and `testing`; `relay`, `render` and `export` only where they
are used.
"""
