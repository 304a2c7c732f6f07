"""How ICANS ran since the therapy: every known grade in time order."""

from __future__ import annotations

from cds.engine.case import Case, once_per_case
from cds.rules.after_cart import coded_episodes, recorded_grades, therapy_start
from cds.rules.grading.capd import capd_scores
from cds.rules.grading.crs_course import Point
from cds.rules.grading.icans_episode import icans_at
from cds.rules.grading.ice import ice_scores
from fhir_mapping.chart import instant


@once_per_case
def icans_points(case: Case) -> tuple[Point, ...]:
    """The grade at every assessment, oldest first: the recorded one, else the one computed from the facts of
    that time; a coded episode gives its onset and its end."""
    start = therapy_start(case)
    if start is None:
        return ()
    found = [
        Point(r.when, r.grade, r.reference)
        for r in recorded_grades(case, "icans_grade", start)
        if r.grade is not None and r.when.earliest <= case.now
    ]
    for condition in coded_episodes(case, "icans", start):
        if (
            condition.onset is not None
            and condition.onset.earliest <= case.now
            and condition.grade is not None
        ):
            found.append(Point(condition.onset, condition.grade.value, condition.reference))
        if condition.end is not None and condition.end.earliest <= case.now:
            found.append(Point(condition.end, 0, condition.reference))
    looked = [score.when for score in (*ice_scores(case), *capd_scores(case))]
    looked += [observation.when for observation in case.chart.series("consciousness_level")]
    times = {when.latest for when in looked if when.exact and start <= when.latest <= case.now}
    for at in times - {point.when.latest for point in found}:
        state = icans_at(case, at, start)
        if state.low is not None:
            found.append(Point(instant(at), state.low))
    return tuple(sorted(found, key=lambda p: (p.when.latest, p.grade)))
