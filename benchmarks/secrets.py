"""Which kinds of secrets leave the process in captured bodies, by agent, each as it comes.

``python -m benchmarks.secrets AGENT`` posts the corpus of ``tests/capture`` to an application
behind one agent, and looks for each secret in all that it sends to a server on loopback.
"""

from __future__ import annotations

import json
import os
import sys

from werkzeug.test import Client

from tests.capture.corpus import FORMED, NAMED, SECRET, bodies

from . import agents, arrivals, subjects


def cases() -> dict[str, tuple[str, str, str]]:
    """The kinds of secrets: field, value, and the part that must not be seen."""
    found = {}
    for number, name in enumerate(NAMED):
        secret = f"{SECRET}-{number:03}"
        found[f"named {name}"] = (name, secret, secret)
    for form, (value, secret) in FORMED.items():
        found[f"form {form}"] = ("remark", value, secret)
    return found


JSON, ANY = "json", "any"
"""The kind of body of `tests.capture.corpus` that is a JSON object, and all of them."""
LAST = "the last request"
"""The value of a name that is no secret, which has to arrive."""


def seen(agent: str) -> dict[str, list[str]]:
    """The kinds of secrets that an agent sends: of JSON objects, and of any kind of body."""
    sent: dict[str, list[str]] = {}
    with arrivals.receiving() as (received, variables):
        os.environ |= variables
        client = Client(subjects.make(agent))

        def post(data: bytes, content_type: str) -> None:
            address = {"REMOTE_ADDR": "127.0.0.1"}
            request = {"data": data, "content_type": content_type, "environ_base": address}
            with client.post("/take", **request) as answer:
                answer.get_data()

        for part, is_wanted in ((JSON, JSON.__eq__), (ANY, JSON.__ne__)):
            for field, value, _ in cases().values():
                for kind, body in bodies(field, value).items():
                    if is_wanted(kind):
                        post(*body)
            post(json.dumps({"note": f"{part}: {LAST}"}).encode(), "application/json")
            for send in subjects.unsent:
                send()
            with received.more:
                kept = bytes(received.data)
            if f"{part}: {LAST}".encode() not in kept:
                raise RuntimeError(f"{agent} has not sent everything")
            sent[part] = [
                kind for kind, (_, _, secret) in cases().items() if secret.encode() in kept
            ]
    return sent


def measure() -> dict[str, dict[str, list[str]]]:
    """By agent, the kinds of secrets that it sends; each agent in a process of its own."""
    return {
        agent: agents.output_of(__spec__.name, agent)
        for agent in ("ours_capturing", *agents.AGENTS)
    }


if __name__ == "__main__":
    print(json.dumps(seen(sys.argv[1])))
