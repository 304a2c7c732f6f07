"""The demo stories for the page at `/`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cds.cli.console import read_json
from cds.cli.fixtures import folder, load_saved, story_names
from cds.cli.shift import shifted
from cds.web import Demo, DemoPatient, DemoRequest


def demo_of(fhir_server: str, clock: datetime) -> Demo:
    """Every story with its saved requests, moved to the clock as its chart is."""
    return Demo(fhir_server, clock.isoformat(), tuple(_patient(name, clock) for name in story_names()))


def _patient(name: str, clock: datetime) -> DemoPatient:
    requests, title = [], {"en": name}
    for path in sorted((folder() / "requests").glob(f"{name}-*.json")):
        saved = load_saved(path)
        if saved.story != name:
            continue  # the name of another story may begin with this one
        told: dict[str, Any] = read_json(path)
        title = told.get("title", title)
        body = shifted(saved.body, clock - saved.clock) if saved.clock else saved.body
        requests.append(DemoRequest(saved.name, told.get("asks", {"en": saved.name}), saved.services, body))
    return DemoPatient(name, title, tuple(requests))
