"""CRS, neurotoxicity, and what a clinician recorded: rows C1, Z1, K11."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, timedelta

from cards.finding import Evidence, Message, msg
from cds.engine.case import Case
from cds.rules.bispecific.holds.rows import Action, HoldRow
from cds.rules.bispecific.neuro import neuro_state
from cds.rules.bispecific.tarlatamab import DRUG, last_exposure, recorded_hold, recorded_stop, start_of
from cds.rules.bispecific.toxicity import crs_history


def crs(case: Case) -> Iterator[HoldRow]:
    history = crs_history(case)
    if history is None:
        return
    onset = None if history.last_onset is None else history.last_onset.date
    reference = history.state.recorded.reference if history.state.recorded is not None else ""
    evidence = (Evidence(reference, "crs_grade", history.ever),) if reference else ()
    if history.ever >= 4:
        yield HoldRow(
            "C1",
            Action.STOP,
            msg("row.C1-stop"),
            onset if history.last_grade >= 4 else None,
            evidence=evidence,
            values={"crs_grade": history.ever},
        )
    elif history.unresolved:
        grade = history.state.grade or history.last_grade
        yield HoldRow(
            "C1",
            Action.HOLD,
            msg("row.C1-hold", grade=grade) if grade else msg("row.C1-ungraded"),
            onset,
            evidence=evidence,
            values={"crs_grade": grade} if grade else {},
        )


def explained_fever(case: Case, rows: Iterable[HoldRow]) -> bool:
    """Fever alone, unnamed by a clinician and late after the dose, in a neutropenic patient: neutropenia
    explains it (the fever gate of the CRS table)."""
    history, last = crs_history(case), last_exposure(case)
    if history is None or last is None or history.state.signs or history.ever > 1:
        return False
    if history.state.recorded is not None or history.last_onset is None:
        return False
    late = timedelta(hours=float(case.p("grading.crs-tarlatamab")["strong_hours"]))
    neutropenic = any(row.row in ("N1", "N2") and row.action >= Action.HOLD for row in rows)
    return neutropenic and history.last_onset.earliest - start_of(last, case.now) > late


def neurotoxicity(case: Case) -> Iterator[HoldRow]:
    """Z1: the verdict counts here, its card is written by dosing.icans-tarlatamab."""
    state = neuro_state(case)
    if state is None:
        return
    onset = None if state.onset is None else state.onset.date
    if state.ever >= 4:
        yield HoldRow("Z1", Action.STOP, msg("row.Z1-stop"), onset, evidence=state.evidence, elsewhere=True)
    elif state.unresolved:
        grade = state.grade or 1
        yield HoldRow(
            "Z1", Action.HOLD, msg("row.Z1-hold", grade=grade), onset, evidence=state.evidence, elsewhere=True
        )
    elif state.symptoms and state.grade is None:
        yield HoldRow("Z1", Action.HOLD, msg("row.Z1-symptoms"), evidence=state.symptoms, elsewhere=True)


def recorded(case: Case) -> Iterator[HoldRow]:
    if stop := recorded_stop(case):
        yield HoldRow(
            "K11", Action.STOP, _dated("row.recorded-stop", stop.since), evidence=(_ref(stop.reference),)
        )
    if hold := recorded_hold(case):
        yield HoldRow(
            "K11", Action.HOLD, _dated("row.recorded-hold", hold.since), evidence=(_ref(hold.reference),)
        )


def _dated(key: str, day: date | None) -> Message:
    return msg(key + "-undated") if day is None else msg(key, day=day)


def _ref(reference: str) -> Evidence:
    return Evidence(reference, DRUG)
