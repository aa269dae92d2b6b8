"""The pipeline, whose stages are forced; the image and the compose file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from example_app.bootstrap import INVENTORY_GRPC
from example_app.deploy import pipeline
from example_app.deploy.checks.references import PATHS, settings
from example_app.deploy.pipeline import FORCED, NotForced, Step, run, steps
from example_app.wsgi import NAMES

DEPLOY = Path(pipeline.__file__).parent
ROOT = DEPLOY.parents[1]
GOOD = """
stages: [static scan, integration test, canary]
look: {stage: static scan, script: ["true"]}
try: {stage: integration test, script: ["true", "true"]}
give: {stage: canary, script: ["true"]}
"""


def test_ours_forces_its_stages_and_runs_what_is_there() -> None:
    todo = steps((DEPLOY / "pipeline.yml").read_text())
    assert {step.stage for step in todo} >= set(FORCED)
    for step in todo:
        for path in re.findall(r"(?:tests|example_app)/\S+", step.command):
            assert (ROOT / path).exists(), step


def test_steps_come_stage_by_stage() -> None:
    assert steps(GOOD)[:2] == [
        Step("static scan", "look", "true"), Step("integration test", "try", "true")
    ]  # fmt: skip
    assert len(steps(GOOD)) == 4


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (", canary]", "]", "the stages are"),
        ("[static scan, integration test,", "[integration test, static scan,", "in this order"),
        ("give: {stage: canary", "give: {stage: static scan", "the stage 'canary' has no job"),
        ("stage: canary,", "stage: canari,", "give is of no stage there is: 'canari'"),
        ('look: {stage: static scan, script: ["true"]}', "look: {stage: static scan}", "nothing"),
        ("{stage: canary,", "{stage: canary, allow_failure: true,", "take out `allow_failure`"),
        ("{stage: canary,", "{stage: canary, when: manual,", "take out `when`"),
        ("{stage: canary,", "{stage: canary, rules: [],", "take out `rules`"),
        ('script: ["true", "true"]', 'script: ["ruff || true"]', "try cannot fail: ruff"),
        ("stages:", "default: {when: manual}\nstages:", "when could leave jobs out"),
        ("stages:", "include: other.yml\nstages:", "include could leave jobs out"),
    ],
)
def test_one_that_could_be_gone_around_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, problem: str
) -> None:
    changed = GOOD.replace(old, new)
    assert changed != GOOD
    with pytest.raises(NotForced, match=re.escape(problem)):
        steps(changed)
    (tmp_path / "pipeline.yml").write_text(changed)
    assert pipeline.main(["--file", str(tmp_path / "pipeline.yml")]) == 2
    assert problem in capsys.readouterr().err


def test_the_first_step_that_fails_is_the_last_one(tmp_path: Path) -> None:
    commands = ["echo $CI > first", "exit 3", "touch third"]
    assert run([Step("s", "j", command) for command in commands], tmp_path) == 3
    assert sorted(it.name for it in tmp_path.iterdir()) == ["first"]
    assert (tmp_path / "first").read_text() == "true\n"
    assert run([Step("s", "j", "false; true")], tmp_path) == 1


def test_the_command_runs_all_or_lists_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pipeline.yml").write_text(GOOD)
    assert pipeline.main(["--file", str(tmp_path / "pipeline.yml")]) == 0
    assert "all 4 steps succeeded" in capfd.readouterr().out
    assert pipeline.main(["--list"]) == 0
    assert "canary: versions: " in capfd.readouterr().out


# Compose and the image.


@pytest.fixture
def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return read


def test_compose_runs_every_service_as_it_is_found(compose: dict[str, Any]) -> None:
    services = {name: it for name, it in compose["services"].items() if name != "jaeger"}
    assert set(services) == set(NAMES)
    for name, service in services.items():
        given = service["environment"]
        assert {it for it in given if not it.startswith("OTEL_")} <= settings()
        addresses = dict(pair.split("=") for pair in given["EXAMPLE_SERVICES"].split(","))
        assert set(addresses) == {*NAMES, INVENTORY_GRPC}
        port = addresses[name].rpartition(":")[2]
        assert addresses[name] == f"http://{name}:{port}"
        assert service["command"][-2:] == [f"--bind=0.0.0.0:{port}", f"example_app.wsgi:{name}"]
        assert any(f":{port}{path}" in str(service["healthcheck"]["test"]) for path in PATHS)
        assert service["read_only"]
        assert service["user"] == "10001:10001"
        assert set(service.get("depends_on", ())) <= set(services)
        assert {it.split(":")[0] for it in service["volumes"]} == set(compose["volumes"])
    assert (DEPLOY / compose["services"]["jaeger"]["volumes"][0].split(":")[0]).exists()
    build = services["orders"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).exists()


def test_what_the_image_is_made_of_is_there_and_not_ignored() -> None:
    ignored = (DEPLOY / "Containerfile.ignore").read_text().splitlines()
    assert ignored[0] == "*"
    copied = re.findall(
        r"^COPY (?!--from)(.*) \S+$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE
    )
    for path in " ".join(copied).split():
        assert (ROOT / path).exists()
        assert f"!{path}" in ignored
