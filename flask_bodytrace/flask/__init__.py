"""All that knows Flask: how the extension attaches, its request class, ``g.trace``, its hooks.

Belongs here: what needs an application, a request or a response of Flask's. Does not belong here:
what any WSGI application needs (``flow/``), and how a body is kept (``body/``).

May be imported by the modules at the top.
"""
