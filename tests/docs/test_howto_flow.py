"""docs/howto/streaming.md and docs/howto/sampling.md."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from flask_bodytrace.testing import SpanRecorder
from tests.docs.pages import DOCS, blocks, load

STREAMING = DOCS / "howto/streaming.md"
SAMPLING = DOCS / "howto/sampling.md"


def test_an_upload_is_read_twice_in_pieces(tmp_path: Path) -> None:
    client = load(STREAMING, "uploads.py", tmp_path).app.test_client()
    body = bytes(range(256)) * 8192  # 2 MiB: more than is kept in memory
    right = hashlib.sha256(body).hexdigest()
    answer = client.put("/files/a", data=body, headers={"X-SHA256": right})
    assert answer.json == {"sha256": right, "bytes": len(body), "kept": True}
    assert client.put("/files/a", data=body, headers={"X-SHA256": "0"}).status_code == 422


def test_what_a_streamed_answer_does_is_below_its_request(
    tmp_path: Path, spans: SpanRecorder
) -> None:
    client = load(STREAMING, "answers.py", tmp_path).app.test_client()
    assert client.get("/export?order=ORD1").text == "0,ORD1\n1,ORD1\n2,ORD1\n"
    spans.assert_edges([(None, "GET /export"), *[("GET /export", "row")] * 3])
    assert client.get("/events").text.startswith("event: hello")


def test_a_sampler_goes_by_ids(tmp_path: Path) -> None:
    client = load(SAMPLING, "by_id.py", tmp_path).app.test_client()
    assert client.post("/orders", json={"userId": "u-7"}).json == {"sampled": True}
    assert client.post("/orders", json={"userId": "u-8"}).json == {"sampled": False}


def test_the_collectors_configurations_are_yaml() -> None:
    for page in (SAMPLING, DOCS / "howto/exporting.md"):
        (block,) = blocks(page, "yaml")
        assert {"processors"} <= set(msgspec.yaml.decode(block.code))
