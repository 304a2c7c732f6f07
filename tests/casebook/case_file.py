"""Case files: tests/rules/<domain>/<topic>.yaml -> runnable cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from cards.finding import Finding
from cds.engine.case import Case, Facility, OrderContext
from cds.engine.parameters import Parameters
from cds.engine.rule import Hook
from cds.engine.rulebook import Rulebook, load_rulebook
from fhir_mapping import read_chart
from fhir_mapping.chart import Chart
from fhir_mapping.terminology import load
from tests.casebook.shorthand import ZONE, Bench, add

RULES = Path(__file__).parent.parent / "rules"


@dataclass(frozen=True)
class Written:
    """One case as written in its file, file-level defaults applied."""

    rule: str
    name: str
    raw: Mapping[str, Any]
    path: Path

    @property
    def id(self) -> str:
        return f"{self.rule}: {self.name}"

    @property
    def hook(self) -> Hook:
        return Hook(self.raw.get("hook", "patient-view"))


def _stamp(raw: object) -> datetime:
    stamp = raw if isinstance(raw, datetime) else datetime.fromisoformat(str(raw))
    return stamp.astimezone(ZONE) if stamp.tzinfo else stamp.replace(tzinfo=ZONE)


def written_cases(pattern: str = "**/*.yaml") -> Iterator[Written]:
    """Every case of every case file, in file order. Raises ValueError on two cases of one name."""
    for path in sorted(RULES.glob(pattern)):
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        seen: set[str] = set()
        for case in data["cases"]:
            name = str(case["case"])
            if name in seen:
                raise ValueError(f"{path.name}: two cases named {name!r}")
            seen.add(name)
            defaults = {k: v for k, v in data.items() if k not in ("cases", "given", "rule")}
            given = [] if case.get("bare") else data.get("given", [])
            chart = [*given, *case.get("chart", [])]
            yield Written(case.get("rule", data["rule"]), name, {**defaults, **case, "chart": chart}, path)


def bench_of(written: Written) -> Bench:
    """The case's FHIR resources."""
    now = _stamp(written.raw["now"])
    bench = Bench(now=now, d0=_stamp(written.raw.get("d0", now)))
    if not any("patient" in entry for entry in written.raw["chart"]):
        add({"patient": "p1", "birth": "1970-01-01", "sex": "male"}, bench)
    for entry in written.raw["chart"]:
        add(entry, bench)
    return bench


@cache
def rulebook() -> Rulebook:
    return load_rulebook(load())


def chart_of(written: Written, bench: Bench) -> Chart:
    return read_chart(
        bench.resources,
        patient_id=bench.patient,
        now=bench.now,
        zone=ZONE,
        terminology=load(),
        drafts=bench.drafts,
        appointments=bench.appointments,
        encounter_id=str(written.raw.get("encounter", "")),
        hook=written.hook.value,
    )


def _parameters(changes: Mapping[str, Any], rule: str) -> dict[str, Parameters]:
    book = dict(rulebook().parameters)
    own = book[rule]
    items = dict(own.items)
    for name, value in changes.items():
        items[name] = replace(items[name], value=Decimal(str(value)), site_value=True)
    book[rule] = replace(own, items=items)
    return book


def case_of(written: Written, bench: Bench) -> Case:
    selected = written.raw.get("select")
    references = None
    if selected is not None:
        references = frozenset(
            f"{draft['resourceType']}/{draft['id']}" for draft in bench.drafts if draft["id"] in selected
        )
    facility = {k: tuple(v) if isinstance(v, list) else v for k, v in written.raw.get("facility", {}).items()}
    return Case(
        chart=chart_of(written, bench),
        order=OrderContext(written.hook, references, str(written.raw.get("encounter", ""))),
        now=bench.now,
        parameters=_parameters(written.raw.get("parameters", {}), written.rule),
        facility=Facility(**facility),
    )


def findings_of(written: Written) -> list[Finding]:
    """What the rule under test answers, suggestions already filtered for safety."""
    from cds.engine.run import complete

    case = case_of(written, bench_of(written))
    rule = rulebook().rules[written.rule]
    return [complete(finding, rule, case, rulebook()) for finding in rule.evaluate(case)]
