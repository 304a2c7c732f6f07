"""The one way through: hook request -> data -> chart -> findings -> cards. No HTTP in here."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from cards.context import RenderContext
from cards.finding import Finding
from cards.render import render
from cards.sign_off import SignOff, load_sign_offs
from cards.texts import Language, language_of, negotiate
from cds.access import FhirClient
from cds.describe import describe
from cds.engine.case import Case, OrderContext
from cds.engine.rule import ORDER_HOOKS, Hook
from cds.engine.rulebook import Rulebook, Service, drafts_concern, load_rulebook
from cds.engine.run import Run, card_order, run
from cds.gaps import gaps
from cds.prefetch import (
    BISPECIFICS,
    CAR_T_PRODUCTS,
    Fetched,
    Limits,
    OfferedTypes,
    Plan,
    Resolver,
    TemplateError,
    coverage,
    make_plan,
)
from cds.protocol import (
    HookRequest,
    IssueCode,
    ProtocolError,
    ServiceDescription,
    discovery,
    parse_request,
    with_versions,
)
from cds.repeats import Repeats, without_repeats
from cds.settings import Mode, Settings
from fhir_mapping.chart import Chart
from fhir_mapping.read import read_chart, read_drafts
from fhir_mapping.terminology import Terminology, load

Json = Mapping[str, Any]
_FHIR_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
# Positions of the findings that this user overrode at order-select for the same order; never raises.
Overridden = Callable[[HookRequest, Sequence[Finding], Chart], Awaitable[Collection[int]]]


@dataclass(frozen=True)
class Answer:
    """The response, and how it came about (for `evaluate --explain`, metrics and the audit trail).

    `fetched`, `chart`, `case`, `run` and `context` are None where no draft concerned the service and nothing
    was read. `context` is what the cards were, or in silent mode would have been, written with.
    """

    response: dict[str, Any]
    request: HookRequest
    service: Service
    seconds: float
    fetched: Fetched | None = None
    chart: Chart | None = None
    run: Run | None = None
    suppressed: tuple[Finding, ...] = ()  # overridden before, not sent again
    shortened: tuple[Finding, ...] = ()  # overridden before and critical: sent again, short
    stages: Mapping[str, float] = field(default_factory=dict)  # seconds of read, rules, render
    ruleset: str = ""
    case: Case | None = None
    context: RenderContext | None = None


@dataclass(frozen=True)
class Runtime:
    """What one process needs to answer: settings, rules, templates and the way to FHIR servers."""

    settings: Settings
    rulebook: Rulebook
    resolver: Resolver
    sign_offs: Mapping[str, SignOff] = field(default_factory=dict)

    @property
    def terminology(self) -> Terminology:
        return self.rulebook.terminology

    @cached_property
    def language(self) -> Language:
        return language_of(self.settings.language)

    @cached_property
    def plans(self) -> Mapping[str, Plan]:
        """Templates by service id. Raises TemplateError on a site's template that no client could fill."""
        overrides = self.rulebook.site.prefetch
        return {
            service.id: make_plan(
                service.needs.keys, service.needs.concepts, service.hook, self.terminology, overrides
            )
            for service in self.rulebook.services.values()
        }

    @cached_property
    def discovery(self) -> dict[str, Any]:
        """The answer to `GET /cds-services`."""
        found = []
        for service in self.rulebook.services.values():
            plan = self.plans[service.id]
            title, description = describe(service, self.language)
            found.append(
                ServiceDescription(
                    service.id, service.hook, title, description, plan.published, plan.usage_requirements
                )
            )
        answer = discovery(found)
        return with_versions(answer) if self.settings.discovery_version else answer

    def service(self, service_id: str) -> Service:
        """Raises ProtocolError(404)."""
        service = self.rulebook.services.get(service_id)
        if service is None:
            raise ProtocolError(
                404, IssueCode.NOT_FOUND, "no such service", diagnostics="GET /cds-services lists them."
            )
        return service


def build_runtime(settings: Settings, client: FhirClient) -> Runtime:
    """Everything loaded and checked. Raises the loaders' errors, each naming file, line and reason."""
    rulebook = load_rulebook(load(settings.site_map), settings.site_file)
    sign_offs = load_sign_offs(settings.sign_off_file, rulebook.rules) if settings.sign_off_file else {}
    limits = Limits(settings.fhir_concurrency, settings.fhir_page_limit, settings.entries)
    resolver = Resolver(client, OfferedTypes(settings.not_offered_seconds), limits)
    runtime = Runtime(settings, rulebook, resolver, sign_offs)
    try:
        runtime.plans  # noqa: B018 - made now, so that a template nobody could fill stops the start
    except TemplateError as error:
        raise rulebook.site.fault(["prefetch", error.key], str(error)) from None
    return runtime


async def answer(
    runtime: Runtime,
    service_id: str,
    body: object,
    *,
    accept_language: str | None = None,
    started: float | None = None,
    client: str = "",
    overridden: Overridden | None = None,
) -> Answer:
    """One hook call. `body` is the decoded JSON; `started` (`time.monotonic()`) begins the time budget, which
    may depend on the authenticated `client`; `overridden` is asked at order-sign. Raises ProtocolError.
    """
    settings = runtime.settings
    started = time.monotonic() if started is None else started
    service = runtime.service(service_id)
    request = parse_request(body, service.hook)
    deadline = started + settings.client_budgets.get(client, settings.budget_seconds)
    now = settings.now()
    zone = settings.zone

    if service.hook in ORDER_HOOKS and not request.unreadable_entries:
        drafts = read_drafts(
            request.draft_orders,
            patient_id=request.patient_id,
            now=now,
            zone=zone,
            terminology=runtime.terminology,
        )
        if not drafts_concern(service, drafts):
            return Answer(
                {"cards": []},
                request,
                service,
                time.monotonic() - started,
                ruleset=runtime.rulebook.version,
            )

    def chart_of(resources: Sequence[Json], states: Fetched | None = None) -> Chart:
        return read_chart(
            resources,
            patient_id=request.patient_id,
            now=now,
            zone=zone,
            terminology=runtime.terminology,
            drafts=request.draft_orders,
            appointments=request.appointments,
            encounter_id=request.encounter_id,
            hook=request.hook,
            coverage={} if states is None else {k: coverage(s) for k, s in states.states.items()},
        )

    fetched = await runtime.resolver.resolve(
        request,
        runtime.plans[service.id],
        now=now,
        deadline=deadline - settings.evaluation_seconds,
        in_scope=lambda resources: in_scope(chart_of(resources)),
    )
    read = time.monotonic()
    chart = chart_of(fetched.resources, fetched)
    case = Case(
        chart=chart,
        order=OrderContext(service.hook, request.selections, request.encounter_id),
        now=now,
        parameters=runtime.rulebook.parameters,
        facility=runtime.rulebook.facility,
    )
    ran = run(service, case, runtime.rulebook, deadline)
    extra = tuple(gaps(request, fetched.states, in_scope(chart), chart.drafts.of_others))
    if extra:
        ran = replace(ran, findings=tuple(sorted((*ran.findings, *extra), key=card_order)))
    judged = time.monotonic()
    cards: list[dict[str, Any]] = []
    repeats = Repeats(ran.findings)
    context = _context(runtime, request, case, accept_language)
    if settings.mode is Mode.ACTIVE:
        if overridden is not None and service.hook is Hook.ORDER_SIGN and ran.findings:
            repeats = without_repeats(ran.findings, await overridden(request, ran.findings, chart))
            ran = replace(ran, findings=repeats.kept)
        cards = render(ran.findings, context)
    done = time.monotonic()
    return Answer(
        {"cards": cards},
        request,
        service,
        done - started,
        fetched,
        chart,
        ran,
        repeats.suppressed,
        repeats.shortened,
        {"read": read - started, "rules": judged - read, "render": done - judged},
        runtime.rulebook.version,
        case,
        context,
    )


def _addressable(resource: Json) -> bool:
    """Can an action name it? Only by a FHIR id; an order with another one is judged but not touched."""
    found = resource.get("id")
    return isinstance(found, str) and _FHIR_ID.fullmatch(found) is not None


def in_scope(chart: Chart) -> bool:
    """CAR-T or bispecific therapy, given, planned or proposed. No rule speaks of anybody else."""
    course = chart.course
    if course.any_evidence or course.possible_collection is not None or course.ldc_records:
        return True
    therapy = (*CAR_T_PRODUCTS, *BISPECIFICS)
    return bool(
        chart.drugs.of(*therapy)
        or chart.drafts.drugs.of(*therapy)
        or chart.services.of(*therapy)
        or chart.drafts.services.of(*therapy)
        or chart.appointments.of(*therapy)
        or chart.drafts.appointments.of(*therapy)
    )


def _context(
    runtime: Runtime, request: HookRequest, case: Case, accept_language: str | None
) -> RenderContext:
    hooked = (*request.draft_orders, *request.appointments)
    return RenderContext(
        language=negotiate(accept_language, runtime.language),
        zone=runtime.settings.zone,
        hook_instance=request.hook_instance,
        rules=runtime.rulebook.rules,
        ruleset_version=runtime.rulebook.version,
        terminology=runtime.terminology,
        now=case.now,
        patient=f"Patient/{request.patient_id}",
        sign_offs=runtime.sign_offs,
        drafts={f"{r['resourceType']}/{r['id']}": r for r in hooked if _addressable(r)},
        read=case.chart.drafts,
        encounter=f"Encounter/{request.encounter_id}" if request.encounter_id else "",
        requester=request.user_id if request.user_id.startswith("Practitioner") else "",
        max_cards=runtime.settings.max_cards,
    )
