"""Business ids: which fields of a request they are, and how they are found.

`rules` is how settings name them, `extractor` what rules are compiled to; `json_scan` and `forms`
read bodies, `sources` asks a request for its body, query, headers and URL arguments.

Belongs here: pure functions of bytes and strings. Does not belong here: spans, Flask; what becomes
of an id once it is found.

May be imported by ``trace/``, ``flow/`` and the modules at the top.
"""
