"""From prefetch and the FHIR server to the resources of one call, with the state of every key.

Prefetch is read first. What it lacks is asked of the client's FHIR server in two waves: the patient and the
scope keys; then, if the patient has or is to have CAR-T or bispecific therapy, the rest. Before a patient is
called out of scope, the keys with weaker signs (bookings, diagnoses, reported drugs) are asked too, so that
both ways of getting the data end in the same answer.

Whose data a resource is, and which copy of a resource counts, is judged by the mapper for everything that
arrives, in either way. Checked here: the Patient itself, and answers that are wholly about somebody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cds.access import FhirClient, FhirFailure
from cds.prefetch.bundles import Page, Shape, read_page
from cds.prefetch.fetch import Reader
from cds.prefetch.keys import PATIENT
from cds.prefetch.offered import OfferedTypes
from cds.prefetch.plan import Plan, Template, substituted
from cds.prefetch.states import Empty, Failed, Found, KeyState, NotAsked, Reason, joined, read
from cds.protocol.addresses import readdressed
from cds.protocol.errors import IssueCode, ProtocolError
from cds.protocol.request import HookRequest, Note
from fhir_mapping.read.pool import parse_reference

Json = Mapping[str, Any]
InScope = Callable[[Sequence[Json]], bool]

_REFUSALS = frozenset({Reason.REFUSED, Reason.FORBIDDEN, Reason.NOT_FOUND})


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one call: FHIR requests at once, pages of one search, resources in all."""

    concurrency: int = 24
    pages: int = 5
    entries: int = 20_000


@dataclass(frozen=True, slots=True)
class Fetched:
    """Everything that arrived, in no particular order, and the state of every key of the plan.

    `asked` are the keys for which the FHIR server was called.
    """

    resources: list[Json]
    states: Mapping[str, KeyState]
    patient: Json
    asked: tuple[str, ...] = ()


@dataclass
class _Call:
    """What is known so far in one call. `states` is by template name."""

    request: HookRequest
    plan: Plan
    reader: Reader
    no_server: Reason | None
    states: dict[str, KeyState] = field(default_factory=dict)
    pages: dict[str, Page] = field(default_factory=dict)  # prefetch answers that may need more pages
    extra: list[Json] = field(default_factory=list)  # resources under keys of no template
    asked: list[str] = field(default_factory=list)

    def open(self, chosen: Iterable[Template]) -> list[Template]:
        return [template for template in chosen if template.name not in self.states]

    def resources(self) -> list[Json]:
        found = list(self.extra)
        for state in self.states.values():
            found += state.resources
        return found


class Resolver:
    """One per process: the FHIR client and the memory of what servers refuse."""

    def __init__(self, client: FhirClient, offered: OfferedTypes, limits: Limits) -> None:
        self._client, self.offered, self._limits = client, offered, limits

    async def resolve(
        self, request: HookRequest, plan: Plan, *, now: datetime, deadline: float, in_scope: InScope
    ) -> Fetched:
        """Raises ProtocolError: 412 where the patient or every scope key cannot be had, 413 on too much data.

        `deadline` (`time.monotonic()`) bounds all fetching. `in_scope` judges the resources known so far.
        """
        call = self._begin(request, plan, now, deadline)
        await self._finish_pages(call)
        first = [t for t in plan.templates if t.spec.scope or t.spec.name == PATIENT]
        await self._ask(call, first)
        patient = _patient(call)
        _require_scope(call)
        if rest := call.open(plan.templates):
            await self._second_wave(call, rest, in_scope)
        self._bounded(call)
        return Fetched(call.resources(), _by_key(call), patient, tuple(call.asked))

    def _begin(self, request: HookRequest, plan: Plan, now: datetime, deadline: float) -> _Call:
        target, no_server = None, Reason.NO_SERVER
        if request.fhir_server:
            if _token_unusable(request):
                no_server = Reason.TOKEN
            else:
                token = request.authorization.token if request.authorization else ""
                try:
                    target = self._client.target(request.fhir_server, token)
                except FhirFailure:
                    no_server = Reason.NOT_ALLOWED
        zone = now.tzinfo
        if zone is None:
            raise ValueError("now needs a zone")
        reader = Reader(self._client, target, now, zone, deadline, self._limits.pages)
        call = _Call(request, plan, reader, None if target is not None else no_server)
        pages = _pages(request.prefetch)
        for template in plan.templates:
            if template.name in pages:
                self._given(call, template, pages.pop(template.name))
        for page in pages.values():  # keys of no template
            if page is not None:
                call.extra += page.matches
                call.extra += page.others
        self._bounded(call)
        return call

    def _given(self, call: _Call, template: Template, page: Page | None) -> None:
        """A key of the prefetch (null: asked, nothing found): settled, or open where it must be fetched."""
        is_patient = template.spec.name == PATIENT
        if page is None:
            if not is_patient:
                call.states[template.name] = Empty()
            return
        fetchable = call.no_server is None
        if page.shape in (Shape.UNREADABLE, Shape.TRANSIENT_OUTCOME):
            if not fetchable:
                unreadable = page.shape is Shape.UNREADABLE
                call.states[template.name] = Failed(Reason.MALFORMED if unreadable else Reason.OUTCOME)
        elif page.shape is Shape.OUTCOME:
            call.states[template.name] = Failed(Reason.OUTCOME)
        elif page.partial:
            call.pages[template.name] = page
        elif is_patient and not _own_patients(page.matches, call.request.patient_id):
            if not fetchable:
                call.states[template.name] = Failed(Reason.OTHER_PATIENT)
        else:
            found = (*page.matches, *page.others)
            state = Found(found) if page.matches else Empty(found)
            call.states[template.name] = _of_this_patient(state, call.request.patient_id)

    async def _finish_pages(self, call: _Call) -> None:
        if not call.pages:
            return
        target = call.reader.target
        base = target.url("") if target is not None else ""

        async def finish(template: Template) -> None:
            page = call.pages[template.name]
            state = await call.reader.continued(page, template.spec, template.spec.sort, base)
            call.states[template.name] = _of_this_patient(state, call.request.patient_id)

        await asyncio.gather(*(finish(t) for t in call.plan.templates if t.name in call.pages))

    async def _ask(self, call: _Call, chosen: Iterable[Template]) -> None:
        """Fetch the open ones of the chosen templates, all at once."""
        wanted = call.open(chosen)
        if not wanted:
            return
        if call.no_server is not None:
            for template in wanted:
                call.states[template.name] = NotAsked(call.no_server)
            return
        gate = asyncio.Semaphore(self._limits.concurrency)
        server, scope = _server(call)

        async def ask(template: Template) -> None:
            query = substituted(template.text, call.request)
            if query is None:
                call.states[template.name] = NotAsked(Reason.NO_CONTEXT)
            elif not self.offered.offers(server, scope, template.spec.resource_type):
                call.states[template.name] = Failed(Reason.NOT_OFFERED)
            else:
                async with gate:
                    call.asked.append(template.name)
                    state = await call.reader.fetch(template.spec, query)
                    call.states[template.name] = _of_this_patient(state, call.request.patient_id)

        await asyncio.gather(*(ask(template) for template in wanted))
        self._remember_refusals(call, wanted)

    def _remember_refusals(self, call: _Call, wanted: Iterable[Template]) -> None:
        """A type of which every search was refused is not offered here; a single read says nothing."""
        by_type: dict[str, list[Template]] = {}
        for template in wanted:
            if template.name in call.asked and "?" in template.text:
                by_type.setdefault(template.spec.resource_type, []).append(template)
        server, scope = _server(call)
        for resource_type, templates in by_type.items():
            states = [call.states[template.name] for template in templates]
            if all(isinstance(state, Failed) and state.reason in _REFUSALS for state in states):
                self.offered.refuse(server, scope, resource_type)
                for template in templates:
                    call.states[template.name] = Failed(Reason.NOT_OFFERED)

    async def _second_wave(self, call: _Call, rest: Sequence[Template], in_scope: InScope) -> None:
        if call.no_server is None and _scope_read(call) and not in_scope(call.resources()):
            await self._ask(call, [t for t in rest if t.spec.evidence])
            if not in_scope(call.resources()):
                for template in call.open(rest):
                    call.states[template.name] = NotAsked(Reason.OUT_OF_SCOPE)
                return
        await self._ask(call, rest)

    def _bounded(self, call: _Call) -> None:
        most = self._limits.entries
        if len(call.extra) + sum(len(state.resources) for state in call.states.values()) > most:
            raise ProtocolError(413, IssueCode.TOO_COSTLY, f"more than {most} resources", "prefetch")


def _patient(call: _Call) -> Json:
    """The patient, from its key or from any other. Raises ProtocolError(412)."""
    state = call.states[PATIENT]
    known = _own_patients(state.resources, call.request.patient_id)
    own = known or _own_patients(call.resources(), call.request.patient_id)
    if not own:
        reason = state.reason if isinstance(state, Failed | NotAsked) else Reason.OTHER_PATIENT
        raise _missing(f"prefetch.{PATIENT}", f"{PATIENT}: {reason}")
    if own[0] not in state.resources:
        call.states[PATIENT] = Found((*state.resources, own[0]))
    return own[0]


def _require_scope(call: _Call) -> None:
    """Raises ProtocolError(412) where nothing at all tells whether the patient has the therapy."""
    scope = [t for t in call.plan.templates if t.spec.scope]
    states = [call.states[template.name] for template in scope]
    if not states or any(read(state) or state.resources for state in states):
        return
    reasons = ", ".join(
        f"{template.name}: {state.reason}"
        for template, state in zip(scope, states, strict=True)
        if isinstance(state, Failed | NotAsked)
    )
    raise _missing("prefetch", reasons)


def _scope_read(call: _Call) -> bool:
    """A scope key that could not be read may hide the therapy; one that the server does not have cannot."""
    return all(
        read(state) or (isinstance(state, Failed) and state.reason is Reason.NOT_OFFERED)
        for template in call.plan.templates
        if template.spec.scope
        for state in (call.states[template.name],)
    )


def _server(call: _Call) -> tuple[str, str]:
    scope = call.request.authorization.scope if call.request.authorization else ""
    target = call.reader.target
    return ("" if target is None else str(target.base).rstrip("/")), scope


def _token_unusable(request: HookRequest) -> bool:
    """Expired, or restricted to another patient, whose empty answers would read as "nothing there"."""
    authorization = request.authorization
    if authorization is None:
        return False
    expired = authorization.expires_in is not None and authorization.expires_in <= 0
    return expired or Note.TOKEN_OF_OTHER_PATIENT in request.notes


def _pages(prefetch: Json) -> dict[str, Page | None]:
    """What came under each key; addresses of entries are looked at only where there are some."""

    def pages_of(held: Json) -> dict[str, Page | None]:
        return {name: None if value is None else read_page(value) for name, value in held.items()}

    pages = pages_of(prefetch)
    addressed = any(page is not None and page.addressed for page in pages.values())
    return pages_of(readdressed(prefetch)) if addressed else pages


def _of_this_patient(state: KeyState, patient_id: str) -> KeyState:
    """An answer with nothing but another patient's data is a key that was not read, not an empty one. The
    resources stay, for the mapper to name."""
    if isinstance(state, Found) and all(_names_another(item, patient_id) for item in state.resources):
        return Failed(Reason.OTHER_PATIENT, state.resources)
    return state


def _names_another(resource: object, patient_id: str) -> bool:
    if not isinstance(resource, dict):
        return False
    owner = resource.get("subject", resource.get("patient"))
    written = owner.get("reference") if isinstance(owner, dict) else None
    named = parse_reference(written) if isinstance(written, str) else None
    return named is not None and named[0] == "Patient" and named[1] != patient_id


def _is_patient(resource: object) -> bool:
    return isinstance(resource, dict) and resource.get("resourceType") == "Patient"


def _own_patients(resources: Iterable[Json], patient_id: str) -> list[Json]:
    """Patients with the call's id; one without any id is taken for it."""
    own = []
    for resource in resources:
        if _is_patient(resource):
            identity = resource.get("id")
            if identity == patient_id:
                own.append(resource)
            elif identity is None or identity == "":
                own.append({**resource, "id": patient_id})
    return own


def _by_key(call: _Call) -> dict[str, KeyState]:
    """States by key; the parts of a split key are joined."""
    states: dict[str, KeyState] = {}
    for template in call.plan.templates:
        state = call.states[template.name]
        known = states.get(template.spec.name)
        states[template.spec.name] = state if known is None else joined(known, state)
    return states


def _missing(field_name: str, diagnostics: str) -> ProtocolError:
    return ProtocolError(
        412,
        IssueCode.INCOMPLETE,
        "could be had neither from prefetch nor from the FHIR server",
        field_name,
        diagnostics=diagnostics,
    )
