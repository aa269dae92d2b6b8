import hashlib
import io

import pytest

from example_app.orders import audit


@pytest.mark.parametrize("size", [0, 1, audit.CHUNK_BYTES, audit.CHUNK_BYTES + 1])
def test_the_whole_stream_is_recorded(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    found = audit.record(io.BytesIO(body))

    assert found == audit.BodyRecord(size=size, sha256=hashlib.sha256(body).hexdigest())
