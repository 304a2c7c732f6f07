"""`tcell-cds evaluate`: one saved request, offline, with its explanation or as a scrubbed copy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cds.cli.console import USAGE, err, fail, print_json, read_json
from cds.cli.ehr import CallError
from cds.cli.explain import explanation, print_explanation
from cds.cli.fixtures import load_saved
from cds.cli.offline import Evaluated, chart_file, evaluate, runtime_for, services_for, with_chart
from cds.cli.scrub import Scrubber
from cds.cli.show import outcome_text, print_cards
from cds.pipeline import Runtime
from cds.protocol import operation_outcome

FINDING = "org.tcell-cds.finding"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The request as it was answered (its prefetch filled), and every service's answer."""

    runtime: Runtime
    body: Mapping[str, Any]
    results: list[Evaluated]


async def evaluated(
    path: Path, service: str, chart: Path | None, now: datetime | None, language: str
) -> Outcome:
    """Ends the command on an unreadable file; raises the errors of the settings."""
    saved = load_saved(path)
    runtime = runtime_for(now or saved.clock, every_card=not service)
    try:
        services = services_for(runtime, saved, service)
        source = chart or chart_file(saved, path)
        body: Mapping[str, Any] = saved.body
        if source is not None:
            body = await with_chart(runtime, services[0], body, read_json(source))
    except CallError as error:
        fail(str(error), USAGE)
    return Outcome(runtime, body, [await evaluate(runtime, name, body, language) for name in services])


def show(outcome: Outcome, *, explain: bool, as_json: bool) -> None:
    """Cards, refusals and, on request, the explanation; as JSON where a program reads."""
    if as_json:
        print_json([_as_json(item, explain) for item in outcome.results])
        return
    for item in outcome.results:
        if item.refusal is not None:
            text = outcome_text(operation_outcome(item.refusal))
            err.print(f"{item.service}: refused with {item.refusal.status}: {text}", markup=False)
            continue
        print_cards(item.cards, item.service)
        if explain and item.answer is not None:
            print_explanation(item.answer)


def _as_json(item: Evaluated, explain: bool) -> dict[str, Any]:
    if item.refusal is not None:
        return {
            "service": item.service,
            "status": item.refusal.status,
            "outcome": operation_outcome(item.refusal),
        }
    entry: dict[str, Any] = {"service": item.service, "cards": item.cards}
    if explain and item.answer is not None:
        entry["explanation"] = explanation(item.answer)
    return entry


def _verdicts(results: list[Evaluated]) -> list[tuple[str, str, str]]:
    found = []
    for item in results:
        if item.refusal is not None:
            found.append((item.service, "refused", str(item.refusal.status)))
        for card in item.cards:
            finding = card["extension"][FINDING]
            found.append((finding["rule"], finding["outcome"], card["indicator"]))
    return sorted(found)


async def write_scrubbed(outcome: Outcome, span: timedelta, target: Path) -> bool:
    """Write the de-identified copy; True when it gives the same verdicts as the original."""
    scrubbed = Scrubber(outcome.runtime.terminology, span).request(outcome.body)
    clock = outcome.runtime.settings.now() + span
    services = [item.service for item in outcome.results]
    copy = {"clock": clock.isoformat(timespec="seconds"), "services": services, "request": scrubbed}
    target.write_text(json.dumps(copy, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    settings = outcome.runtime.settings.model_copy(update={"clock": clock})
    rerun = Runtime(settings, outcome.runtime.rulebook, outcome.runtime.resolver, outcome.runtime.sign_offs)
    again = [await evaluate(rerun, name, scrubbed) for name in services]
    return _verdicts(again) == _verdicts(outcome.results)
