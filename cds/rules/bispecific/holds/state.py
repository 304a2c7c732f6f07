"""All rows that apply, worst first."""

from __future__ import annotations

from cds.engine.case import Case, once_per_case
from cds.rules.bispecific.holds.counts import anaemia, neutropenia, thrombocytopenia
from cds.rules.bispecific.holds.events import hypersensitivity, other_events
from cds.rules.bispecific.holds.infections import infections
from cds.rules.bispecific.holds.liver import liver, other_labs
from cds.rules.bispecific.holds.rows import HoldState
from cds.rules.bispecific.holds.toxicities import crs, explained_fever, neurotoxicity, recorded
from cds.rules.bispecific.tarlatamab import exposures

# the table's own order, for rows of equal weight
_ORDER = tuple("K11 N1 N2 A1 P1 Y1 I1 I2 I3 I4 H1 H2 H3 H3b O1 O2 O3 C1 Z1".split())


@once_per_case
def hold_state(case: Case) -> HoldState:
    """Every row that applies; before the first dose only infections and a clinician's word."""
    rows = [*recorded(case), *infections(case)]
    if exposures(case):
        rows += neutropenia(case)
        rows += anaemia(case)
        rows += thrombocytopenia(case)
        rows += liver(case)
        rows += hypersensitivity(case)
        rows += other_events(case)
        rows += other_labs(case)
        rows += crs(case)
        rows += neurotoxicity(case)
    rows = [row for row in rows if row.row != "C1" or not explained_fever(case, rows)]
    return HoldState(tuple(sorted(rows, key=lambda r: (-r.action, _ORDER.index(r.row)))))
