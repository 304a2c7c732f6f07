"""The demo patients and their hook requests, from the installed package or the source tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cds.cli.console import USAGE, fail, read_json

DEMO_IDENTIFIER = "urn:tcell-cds:demo-patient"


def folder() -> Path:
    """Where the fixtures lie. Ends the command where they were not installed."""
    package = Path(__file__).parent.parent
    candidates = (package / "_fixtures", package.parent / "fixtures")
    found = next((candidate for candidate in candidates if (candidate / "patients").is_dir()), None)
    return found or fail("the demo patients are not installed; name the file of a Bundle instead")


@dataclass(frozen=True, slots=True)
class Story:
    """A demo patient: its chart as a Bundle, and the instant at which its story happens (None: not told)."""

    name: str
    bundle: Mapping[str, Any]
    clock: datetime | None


@dataclass(frozen=True, slots=True)
class Saved:
    """A saved hook request: the body, the services it is meant for, and the instant it was asked at."""

    name: str
    body: Mapping[str, Any]
    services: tuple[str, ...] = ()
    clock: datetime | None = None
    story: str = ""


def story_names() -> list[str]:
    return sorted(path.stem for path in (folder() / "patients").glob("*.json"))


def _clock(raw: object) -> datetime | None:
    try:
        stamp = datetime.fromisoformat(str(raw))
    except ValueError:
        return None
    return stamp if stamp.tzinfo else None


def load_story(name: str) -> Story:
    """A story by name, or a Bundle by file. Ends the command where there is neither."""
    path = Path(name)
    if not path.suffix and not path.exists():
        path = folder() / "patients" / f"{name}.json"
        if not path.exists():
            fail(f"no demo patient {name}; there are {', '.join(story_names())}", USAGE)
    bundle = read_json(path)
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        fail(f"{path}: a FHIR Bundle is expected", USAGE)
    requests = sorted((path.parent.parent / "requests").glob(f"{path.stem}-*.json"))
    clocks = [clock for request in requests if (clock := _clock(read_json(request).get("clock"))) is not None]
    return Story(path.stem, bundle, clocks[0] if clocks else None)


def load_saved(path: Path) -> Saved:
    """A saved request: a bare hook body, or one wrapped with its clock, services and story."""
    data = read_json(path)
    if not isinstance(data, dict):
        fail(f"{path}: a JSON object is expected", USAGE)
    if "hook" in data or not isinstance(data.get("request"), dict):
        return Saved(path.stem, data)
    services = data.get("services")
    return Saved(
        path.stem,
        data["request"],
        tuple(map(str, services)) if isinstance(services, list) else (),
        _clock(data.get("clock")),
        str(data.get("story") or ""),
    )
