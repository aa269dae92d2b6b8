"""An order system that shows every feature of flask_bodytrace where a user would want it.

`python -m example_app` serves it, `python -m example_app --demo` sends it real requests and checks
the traces they leave. Services know Protocols only; `bootstrap` alone picks the engines.
"""
