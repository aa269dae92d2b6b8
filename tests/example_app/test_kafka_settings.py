"""What `EXAMPLE_BUS` may say, and what is said of what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from example_app import engines
from example_app.__main__ import main
from example_app.engines import Engines
from example_app.events.kafka_settings import KafkaSettings


def test_the_url_names_brokers_and_properties() -> None:
    settings = KafkaSettings(
        "kafka://one:9092,10.0.0.2:9093,[::1]:9094/?security.protocol=SASL_SSL"
        "&sasl.password=a%26b&session.timeout.ms=10000"
    )
    common = {
        "reconnect.backoff.max.ms": "1000",
        "bootstrap.servers": "one:9092,10.0.0.2:9093,[::1]:9094",
        "security.protocol": "SASL_SSL",
        "sasl.password": "a&b",
    }
    assert settings.common() == common, "producers do not know the others"
    consumers = settings.of_consumers()
    assert common.items() <= consumers.items()
    assert consumers["session.timeout.ms"] == "10000"
    assert consumers["auto.offset.reset"] == "earliest"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("localhost:9092", "localhost:9092"),
        ("kafka://", "kafka://"),
        ("kafka://one", "kafka://one"),
        ("kafka://one:9092,", "kafka://one:9092,"),
        ("kafka://one:9092/topic", "kafka://one:9092/topic"),
        ("amqp://one:5672", "amqp://one:5672"),
        ("kafka://me:secret@one:9092", "kafka:…one:9092"),
        ("kafka:/one:9092?sasl.password=secret", "kafka:/one:9092…"),
        ("kafka://" + "x" * 500, "kafka://" + "x" * 52),
    ],
)
def test_another_url_is_refused_without_its_secrets(url: str, shown: str) -> None:
    with pytest.raises(ValueError, match="must be kafka://HOST:PORT") as refused:
        Engines.from_environment({"EXAMPLE_BUS": url})
    assert f"EXAMPLE_BUS is {shown!r}:" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_wrong_url_stops_the_system_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EXAMPLE_BUS", "localhost:9092")
    assert main(["--any-ports", "--data", str(tmp_path)]) == 1
    assert "cannot run: EXAMPLE_BUS is 'localhost:9092'" in capsys.readouterr().err
    assert main(["--replay", "order.placed.dead.shop"]) == 1
    assert "cannot replay: EXAMPLE_BUS is" in capsys.readouterr().err


def test_without_the_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda _name: None)
    with pytest.raises(ValueError, match=r"pip install 'flask_bodytrace\[kafka\]'"):
        Engines(bus="kafka://one:9092")
    assert Engines().bus == ""
