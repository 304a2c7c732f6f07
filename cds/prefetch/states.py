"""What became of each prefetch key: found, looked at and empty, failed, or not asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from fhir_mapping.chart import Coverage
from fhir_mapping.chart import KeyState as CoverageState

Json = Mapping[str, Any]


class Reason(StrEnum):
    """Why a key was not read. The first block mirrors the FHIR client's failures."""

    NOT_ALLOWED = "not-allowed"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not-found"
    REFUSED = "refused"
    THROTTLED = "throttled"
    SERVER_ERROR = "server-error"
    REDIRECTED = "redirected"
    NOT_FHIR = "not-fhir"
    MALFORMED = "malformed"
    TOO_LARGE = "too-large"

    OUTCOME = "operation-outcome"  # the client or server answered with an OperationOutcome
    INCOMPLETE = "incomplete"  # pages are missing and nothing tells how far back the rest goes
    NOT_OFFERED = "not-offered"  # the server refuses this type: remembered, not asked again for a while
    OTHER_PATIENT = "other-patient"
    NO_SERVER = "no-server"  # absent from prefetch, and no FHIR server to ask
    TOKEN = "token"  # expired, or issued for another patient
    NO_CONTEXT = "no-context"  # the template needs a context field that the hook did not send
    OUT_OF_SCOPE = "out-of-scope"  # nothing of CAR-T or bispecific therapy: the rest was not asked for


@dataclass(frozen=True, slots=True)
class Found:
    """Resources, complete; with a `horizon`, complete back to that instant only. `enough`: no rule looks
    further back."""

    resources: tuple[Json, ...]
    horizon: datetime | None = None
    enough: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Empty:
    """Asked for, and nothing was there."""

    resources: tuple[Json, ...] = ()  # included resources and the like, never a match


@dataclass(frozen=True, slots=True)
class Failed:
    """Could not be read. What had arrived before the failure is kept."""

    reason: Reason
    resources: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class NotAsked:
    reason: Reason
    resources: tuple[Json, ...] = ()


KeyState = Found | Empty | Failed | NotAsked


def read(state: KeyState) -> bool:
    """The key was looked at: its absence of facts means something."""
    return isinstance(state, Found | Empty)


def coverage(state: KeyState) -> Coverage:
    """The chart's word for the state."""
    match state:
        case Found(horizon=None):
            return Coverage(CoverageState.COMPLETE)
        case Found(horizon=horizon, enough=enough):
            return Coverage(CoverageState.HORIZON, horizon, enough=enough)
        case Empty():
            return Coverage(CoverageState.EMPTY)
        case Failed(reason=reason):
            return Coverage(CoverageState.FAILED, reason=reason.value)
        case NotAsked(reason=reason):
            return Coverage(CoverageState.NOT_ASKED, reason=reason.value)


_WEIGHT = {Found: 1, Empty: 0, NotAsked: 2, Failed: 3}


def joined(one: KeyState, other: KeyState) -> KeyState:
    """One key split over two queries: as good as its worse part, with the resources of both."""
    resources = (*one.resources, *other.resources)
    if isinstance(one, Found | Empty) and isinstance(other, Found | Empty):
        if isinstance(one, Empty) and isinstance(other, Empty):
            return Empty(resources)
        short = [s for s in (one, other) if isinstance(s, Found) and s.horizon is not None]
        horizons = [s.horizon for s in short if s.horizon is not None]
        return Found(resources, max(horizons, default=None), enough=all(s.enough for s in short))
    worse = one if _WEIGHT[type(one)] >= _WEIGHT[type(other)] else other
    if isinstance(worse, Failed):
        return Failed(worse.reason, resources)
    assert isinstance(worse, NotAsked)
    return NotAsked(worse.reason, resources)
