"""The deployment files name settings and paths that exist, and run without rights they do not need."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from cds.settings import PREFIX, Settings, check_startup, load

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES = ("Dockerfile", "compose.yaml", "kubernetes.yaml")


@pytest.mark.parametrize("name", FILES)
def test_every_setting_named_exists(name: str) -> None:
    named = set(re.findall(rf"{PREFIX}[A-Z_]+", (DEPLOY / name).read_text(encoding="utf-8")))
    assert named
    assert named <= {PREFIX + field.upper() for field in Settings.model_fields}


def test_what_the_image_copies_is_there() -> None:
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    assert copied
    for source in (source for sources in copied for source in sources):
        assert (DEPLOY.parent / source).exists(), source


def test_the_pod_runs_without_root_and_with_settings_that_start() -> None:
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))
    assert [item["kind"] for item in documents] == ["Deployment", "Service", "HorizontalPodAutoscaler"]
    pod = documents[0]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    given = {e["name"].removeprefix(PREFIX).lower(): e["value"] for e in container["env"] if "value" in e}
    check_startup(load(**given), "0.0.0.0")


def test_the_composed_service_waits_for_its_database() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert services["service"]["depends_on"]["database"]["condition"] == "service_healthy"
    assert all(port.startswith("127.0.0.1:") for port in services["service"]["ports"])
