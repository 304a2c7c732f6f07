"""What a rule is given: chart, order context, now, parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import cached_property, wraps
from typing import Any, TypeVar

from cds.engine.parameters import Parameters
from cds.engine.rule import ORDER_HOOKS, Hook
from fhir_mapping.chart import Appointment, Chart, DrugRecord, DrugState, ServiceOrder, Vaccine

_ENDING = (DrugState.STOPPED, DrugState.ON_HOLD)


@dataclass(frozen=True, slots=True)
class Facility:
    """What the site file says of the centre (contract: `[facility]`)."""

    experienced: bool = True
    monitored_wards: tuple[str, ...] = ()
    influenza_season: tuple[int, int] = (10, 3)  # first and last month
    high_mdr_rate: bool = False


@dataclass(frozen=True, slots=True)
class OrderContext:
    """The hook's question. `selected` None: every draft is judged."""

    hook: Hook
    selected: frozenset[str] | None = None
    encounter: str = ""


@dataclass(frozen=True)
class Case:
    """One evaluation: rules are pure functions of it. `now` is aware, in the site's zone."""

    chart: Chart
    order: OrderContext
    now: datetime
    parameters: Mapping[str, Parameters]
    facility: Facility = field(default_factory=Facility)
    _memo: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def today(self) -> date:
        return self.now.date()

    def days_back(self, count: int) -> timedelta:
        """From now to the beginning of the local day `count` days ago; ages in days are calendar days."""
        start = datetime.combine(self.today - timedelta(days=count), time.min, self.now.tzinfo)
        return self.now - start

    @property
    def hook(self) -> Hook:
        return self.order.hook

    @property
    def ordering(self) -> bool:
        """True on order-select and order-sign."""
        return self.order.hook in ORDER_HOOKS

    def p(self, rule_id: str) -> Parameters:
        return self.parameters[rule_id]

    def _judged(self, reference: str) -> bool:
        return self.order.selected is None or reference in self.order.selected

    def judged_drugs(self, *concepts: str) -> tuple[DrugRecord, ...]:
        """Draft drug orders under judgement (selected ones on order-select), of these concepts or any."""
        drafts = self.chart.drafts.drugs
        found = drafts.of(*concepts) if concepts else drafts.all
        return tuple(d for d in found if d.state not in _ENDING and self._judged(d.reference))

    def ending_drugs(self, *concepts: str) -> tuple[DrugRecord, ...]:
        """Draft orders under judgement that end or interrupt a drug: sent with status stopped or on-hold."""
        found = self.chart.drafts.drugs.of(*concepts)
        return tuple(d for d in found if d.state in _ENDING and self._judged(d.reference))

    def judged_services(self, *concepts: str) -> tuple[ServiceOrder, ...]:
        drafts = self.chart.drafts.services
        found = drafts.of(*concepts) if concepts else drafts.all
        return tuple(s for s in found if self._judged(s.reference))

    def judged_vaccines(self) -> tuple[Vaccine, ...]:
        return tuple(v for v in self.chart.drafts.vaccines.all if self._judged(v.reference))

    def judged_appointments(self, *concepts: str) -> tuple[Appointment, ...]:
        drafts = self.chart.drafts.appointments
        return drafts.of(*concepts) if concepts else drafts.all


T = TypeVar("T")


def once_per_case(function: Callable[[Case], T]) -> Callable[[Case], T]:
    """Compute a shared interpretation (a grade, a ladder position) once per case, for all rules."""

    @wraps(function)
    def remembered(case: Case) -> T:
        memo = case._memo
        if function not in memo:
            memo[function] = function(case)
        return memo[function]  # type: ignore[no-any-return]

    return remembered
