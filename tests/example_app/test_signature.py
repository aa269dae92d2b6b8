import pytest

from example_app.payments import signature


def test_a_signature_is_for_these_bytes_and_this_key() -> None:
    value = signature.sign(b"key", b'{"a": 1}')

    assert value.startswith("sha256=")
    assert signature.matches(b"key", b'{"a": 1}', value)
    assert not signature.matches(b"key", b'{"a":1}', value)
    assert not signature.matches(b"other", b'{"a": 1}', value)


@pytest.mark.parametrize("value", ["", "sha256=", "sha256=00", "\u00e9", "\udcff"])
def test_what_is_no_signature_does_not_match(value: str) -> None:
    assert not signature.matches(b"key", b"body", value)
