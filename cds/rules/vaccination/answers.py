"""What the vaccine rules say alike: an order behind a gate, and the buttons that go with it."""

from __future__ import annotations

from datetime import date

from cards.finding import Create, Delete, Message, Name, ServiceProposal, Suggestion, VaccineProposal
from cds.engine.case import Case
from cds.rules.vaccination.classes import Classified, VaccineClass, alternative, classify
from cds.rules.vaccination.eligibility import LIVE, Gate, GateId, earliest, inactivated_gates, live_gates
from fhir_mapping.chart import Vaccine

TESTS = {GateId.CD4OK: "cd4_abs", GateId.BOK: "cd19_abs"}


def _said(key: str, **values: Name | date) -> Message:
    return Message(f"suggest.{key}", values, LIVE)


def allowed(case: Case, vaccine: str) -> bool:
    """No active allergy to the vaccine is on the chart."""
    return not case.chart.allergy_to(vaccine)


def removal(vaccine: Vaccine) -> Suggestion:
    return Suggestion("remove", _said("remove"), (Delete(vaccine.reference),))


def later(case: Case, vaccine: Vaccine, told: Classified, start: date) -> Suggestion:
    """The same vaccine on its first eligible day."""
    if not told.concept or not allowed(case, told.concept):
        return removal(vaccine)
    actions = (Delete(vaccine.reference), Create(VaccineProposal(told.concept, start)))
    return Suggestion("later", _said("later", start=start), actions, recommended=True)


def substitute(case: Case, vaccine: Vaccine, told: Classified, on: date) -> tuple[Suggestion, ...]:
    """The non-live or alum-adjuvanted counterpart, on the first day its own gate is open by date; none
    where a drug or an unknown fact blocks that gate too."""
    other = alternative(told.concept)
    if not other or not allowed(case, other):
        return ()
    start = _own_start(case, other, on)
    if start is None:
        return ()
    actions = (Delete(vaccine.reference), Create(VaccineProposal(other, start)))
    return (Suggestion("instead", _said("instead", vaccine=Name(other), start=start), actions),)


def _own_start(case: Case, vaccine: str, on: date) -> date | None:
    kind = classify(Vaccine("", frozenset({vaccine}), None)).vaccine_class
    if kind is VaccineClass.ADJUVANTED:
        return _open_day(live_gates(case, on), on)
    if kind is VaccineClass.INACTIVATED:
        return _open_day(inactivated_gates(case, on), on)
    return None


def _open_day(gates: tuple[Gate, ...], on: date) -> date | None:
    blocked = any(g.holds is None or (g.holds is False and g.opens is None) for g in gates)
    if blocked:
        return None
    return earliest(gates, on) or on


def offered(vaccine: Vaccine, suggestions: tuple[Suggestion, ...]) -> tuple[Suggestion, ...]:
    """The buttons of an order; a recommendation is no order that could be changed."""
    return () if vaccine.recommendation else suggestions


def tests(gates: tuple[Gate, ...]) -> tuple[Suggestion, ...]:
    """One button that orders the counts which are missing or out of date."""
    wanted = tuple(TESTS[g.id] for g in gates if g.holds is None and g.id in TESTS)
    if not wanted:
        return ()
    actions = tuple(Create(ServiceProposal(concept)) for concept in wanted)
    return (Suggestion("counts", _said("counts"), actions),)
