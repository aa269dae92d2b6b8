"""Bodies on the trace, and what is hidden of them.

`redactor` knows which names hold secrets, `forms` and `numbers` how secrets look whatever their
name; `text` finds both in text; `copying` copies JSON without them; `documents` turns a body into
text without its secrets, by its media type; `rules` are an application's own; `record` puts the
result on the span.

Belongs here: what is shown of a body, and what never is. Does not belong here: reading bodies
(``body/``), when a span ends (``flow/``), Flask.

May be imported by ``trace/``, ``flow/`` and the modules at the top.
"""
