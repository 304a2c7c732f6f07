"""A simulated patient over six cycles: early, on time, late, missed, interrupted, toxic.

Whatever the history, no suggestion may break the ladder, a hold or a stop; and an order that passes may not
either. The limits are written out here again, apart from the rule's own tables.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cards.finding import Create, DrugProposal, Finding, Indicator
from cds.engine.case import Case, OrderContext
from cds.engine.rule import Hook
from cds.rules.dosing.tarlatamab_hold import tarlatamab_hold
from cds.rules.dosing.tarlatamab_restart import restart
from cds.rules.dosing.tarlatamab_step_up import step_up
from fhir_mapping.chart import (
    Amount,
    Chart,
    Condition,
    ConditionState,
    Dose,
    Drafts,
    DrugRecord,
    DrugSource,
    DrugState,
    Facts,
    Grade,
    Moment,
    Observation,
    Patient,
    Quantity,
    Route,
    Series,
    Timing,
    Value,
    instant,
)
from tests.casebook.case_file import rulebook

ZONE = ZoneInfo("Asia/Taipei")
BEGIN = date(2025, 3, 3)
MAX_GAP = {1: 14, 2: 21}  # after so many doses of a climb; later 28
MIN_GAP = {1: 7, 2: 7}  # later 14


def _at(day: date, hour: int = 9) -> Moment:
    return instant(datetime.combine(day, time(hour), ZONE))


def _record(
    ref: str, source: DrugSource, state: DrugState, day: date, mg: Decimal | None, drug: str = "tarlatamab"
) -> DrugRecord:
    moment = _at(day)
    end = _at(day, 10) if source is DrugSource.ADMINISTRATION else moment
    return DrugRecord(
        reference=ref,
        source=source,
        state=state,
        name=drug,
        concepts=frozenset({drug}),
        ingredients=(drug,),
        timing=Timing(first=moment, last=end, doses=(moment,) if source is DrugSource.ORDER else ()),
        dose=None if mg is None else Dose(Amount(mg, "mg")),
        route=Route.INTRAVENOUS,
    )


class TarlatamabPatient(RuleBasedStateMachine):
    """The chart grows by doses, counts and events; after each step an order of today is judged."""

    @initialize()
    def admitted(self) -> None:
        self.today = BEGIN
        self.doses: list[DrugRecord] = []
        self.counts: list[Observation] = []
        self.grades: list[Observation] = []
        self.conditions: list[Condition] = []
        # the model: doses of this climb, day of the last one, whether the third dose was ever given before
        self.given = 0
        self.last: date | None = None
        self.reached = 0
        self.late_break = False
        self.placed = True
        self.incomplete = False
        self.low_since: date | None = None
        self.crs = 0
        self.stopped = False

    # --- what happens

    @rule(days=st.integers(1, 35))
    def time_passes(self, days: int) -> None:
        if (self.today - BEGIN).days < 200:
            self.today += timedelta(days=days)

    def _next_ref(self) -> str:
        return f"MedicationAdministration/{len(self.doses)}"

    def _given_today(self) -> bool:
        return any(d.timing.first is not None and d.timing.first.date == self.today for d in self.doses)

    @rule(mg=st.sampled_from([Decimal(1), Decimal(10), Decimal(10), Decimal(5)]))
    def dose_given(self, mg: Decimal) -> None:
        if self._given_today() or len(self.doses) > 14:
            return
        self.doses.append(
            _record(self._next_ref(), DrugSource.ADMINISTRATION, DrugState.GIVEN, self.today, mg)
        )
        if mg == 1:
            self.late_break = self.given > 0 and self.reached >= 3
            self.given, self.last, self.placed, self.incomplete = 1, self.today, True, False
            self.reached = max(self.reached, 1)
        elif mg == 10 and self.given > 0:
            self.given, self.last, self.incomplete = self.given + 1, self.today, False
            self.reached = max(self.reached, self.given)
        else:
            self.placed = False

    @rule()
    def infusion_interrupted(self) -> None:
        if self._given_today() or len(self.doses) > 14:
            return
        self.doses.append(
            _record(self._next_ref(), DrugSource.ADMINISTRATION, DrugState.PARTIAL, self.today, Decimal(4))
        )
        self.incomplete = True

    @rule(value=st.sampled_from([Decimal("0.4"), Decimal("0.9"), Decimal("1.0"), Decimal(3)]))
    def neutrophils_counted(self, value: Decimal) -> None:
        if any(o.when.date == self.today for o in self.counts):
            return
        quantity = Quantity(value, "10*3/uL")
        self.counts.append(
            Observation(f"Observation/anc{len(self.counts)}", "anc", _at(self.today, 12), Value(quantity))
        )
        if not self.doses:
            return
        if value < 1:
            self.low_since = self.low_since or self.today
            self.stopped = self.stopped or (self.today - self.low_since).days > 21
        else:
            self.low_since = None

    @rule(grade=st.integers(0, 4))
    def crs_graded(self, grade: int) -> None:
        if any(o.when.date == self.today for o in self.grades) or not self.doses:
            return
        self.grades.append(
            Observation(
                f"Observation/crs{len(self.grades)}", "crs_grade", _at(self.today, 13), Value(number=grade)
            )
        )
        self.crs = grade
        self.stopped = self.stopped or grade == 4

    @rule(grade=st.integers(3, 4))
    def adverse_event(self, grade: int) -> None:
        if not self.doses or len(self.conditions) > 1:
            return
        self.conditions.append(
            Condition(
                f"Condition/ae{len(self.conditions)}",
                frozenset({"arrhythmia"}),
                ConditionState.ACTIVE,
                onset=_at(self.today, 14),
                grade=Grade(grade),
            )
        )
        self.stopped = self.stopped or grade == 4

    # --- what may never be

    def _case(self, drafts: tuple[DrugRecord, ...]) -> Case:
        now = datetime.combine(self.today, time(20), ZONE)
        observations = {"anc": tuple(self.counts), "crs_grade": tuple(self.grades)}
        chart = Chart(
            patient=Patient("Patient/p", sex="male"),
            now=now,
            series_of=lambda concept: Series(concept, observations.get(concept, ())),
            conditions=Facts(tuple(self.conditions)),
            drugs=Facts(tuple(self.doses)),
            drafts=Drafts(drugs=Facts(drafts)),
        )
        return Case(chart, OrderContext(Hook.ORDER_SIGN), now, rulebook().parameters)

    def _answers(self, day: date, mg: Decimal) -> list[Finding]:
        draft = _record("MedicationRequest/d", DrugSource.ORDER, DrugState.DRAFT, day, mg)
        case = self._case((draft,))
        return [*step_up(case), *restart(case), *tarlatamab_hold(case)]

    def _allowed(self, mg: Decimal, day: date) -> bool:
        """The label's ladder, said once more."""
        if not self.placed or self.incomplete:
            return False
        if self.given == 0 or self.last is None:
            return not self.doses and mg == 1
        gap = (day - self.last).days
        if gap > MAX_GAP.get(self.given, 28):
            return mg == 1
        return mg == 10 and gap >= MIN_GAP.get(self.given, 14)

    def _held(self) -> bool:
        return bool(
            self.stopped or self.low_since is not None or self.crs or any(c.grade for c in self.conditions)
        )

    @invariant()
    def suggestions_and_passes_keep_to_the_ladder(self) -> None:
        for mg in (Decimal(1), Decimal(10), Decimal(100)):
            for ahead in (1, 8):
                day = self.today + timedelta(days=ahead)
                findings = self._answers(day, mg)
                verdicts = [f for f in findings if f.rule != "dosing.tarlatamab-hold"]
                for finding in findings:
                    for suggestion in finding.suggestions:
                        for action in suggestion.actions:
                            if isinstance(action, Create) and isinstance(action.proposal, DrugProposal):
                                self._check_proposal(action.proposal)
                loud = [f for f in findings if f.indicator in (Indicator.CRITICAL, Indicator.WARNING)]
                quiet = not [f for f in loud if f.values.get("row") != "labs"]
                if quiet:
                    assert not self._held()
                    assert self._allowed(mg, day), (mg, day, [f.values for f in findings])
                if self._held():
                    assert not verdicts, "a held order is answered by the hold rule alone"

    def _check_proposal(self, proposal: DrugProposal) -> None:
        assert proposal.drug == "tarlatamab"
        assert not self._held()
        assert proposal.dose is not None
        start = proposal.start
        assert isinstance(start, date)
        day = start.date() if isinstance(start, datetime) else start
        assert day >= self.today
        assert self._allowed(proposal.dose.value, day), (proposal.dose, day)

    @invariant()
    def a_stop_is_never_forgotten(self) -> None:
        if not self.stopped:
            return
        outcomes = {f.outcome.value for f in self._answers(self.today + timedelta(days=1), Decimal(10))}
        assert "stop" in outcomes


TestTarlatamabPatient = TarlatamabPatient.TestCase
TestTarlatamabPatient.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
