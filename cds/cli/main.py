"""The commands. Each one only reads its options; the work is done in the module of its name."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from cds import __version__
from cds.cli.console import FAILED, USAGE, busy, err, explained, fail, out, print_json, tracked
from cds.collector import loading

app = typer.Typer(
    name="tcell-cds",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,  # locals may hold a chart
    help="Decision support for CAR-T cells and bispecific T-cell engagers, as a CDS Hooks 2.0 service.\n\n"
    "Start with `tcell-cds serve --demo` in one terminal and follow the `try` line in another. "
    "Settings are environment variables `TCELL_CDS_*`; see the README.",
    epilog="Every command but `serve` has `--json`: JSON on standard output and nothing else; what went "
    "wrong is told in words on standard error.\n\n"
    "Exit codes: 0 done; 1 the thing asked for failed (a check, a server, a refused request); 2 the "
    "question was wrong (an unknown name, an unreadable file, settings that do not start).",
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
LanguageOption = Annotated[
    str, typer.Option(help="en or zh-TW; default: TCELL_CDS_LANGUAGE.", show_default=False)
]
TokenOption = Annotated[
    str,
    typer.Option(
        "--token-env",
        metavar="VAR",
        help="Environment variable that holds the FHIR access token (never given on the command line).",
        show_default=False,
    ),
]
FhirOption = Annotated[
    str, typer.Option("--fhir-server", metavar="URL", help="Base URL of a FHIR R4 server.")
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tcell-cds {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _base(url: str, what: str) -> str:
    if not url.startswith(("http://", "https://")):
        fail(f"{what}: an absolute URL is expected, not {url}", USAGE)
    return url.rstrip("/")


def _checked_language(language: str) -> str:
    from cards.texts import language_of

    if not language:
        return ""
    try:
        return language_of(language).tag
    except ValueError as error:
        fail(f"--language: {error}", USAGE)


@app.command(
    epilog="`tcell-cds serve --demo` needs nothing else: a FHIR server with demo patients comes with it. "
    "Outside this machine (`--host 0.0.0.0`) client authentication must be set: `TCELL_CDS_AUTH_MODE`."
)
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 1,
    demo: Annotated[
        bool, typer.Option("--demo", help="With a FHIR server, demo patients and a frozen clock.")
    ] = False,
) -> None:
    """Run the CDS Hooks service."""
    with explained(), loading():
        from cds.cli import serve as command

        if demo:
            command.serve_demo(host, port)
        else:
            command.serve(host, port, workers)


@app.command(
    epilog="Examples:\n\n"
    "`tcell-cds call washout-patient-view --fhir-server http://127.0.0.1:8001 --patient p1`\n\n"
    "`tcell-cds call dosing-order-sign --fhir-server URL --patient p1 --order draft.json --no-prefetch`\n\n"
    "Without `--service` the service runs inside this command, with the settings of the environment."
)
def call(
    service_id: Annotated[str, typer.Argument(help="Service to call, e.g. `washout-order-sign`.")],
    fhir_server: FhirOption,
    patient: Annotated[str, typer.Option(help="Id of the patient on that server.")],
    order: Annotated[
        list[Path] | None, typer.Option(help="Draft order, list or Bundle (JSON); repeatable.")
    ] = None,
    select: Annotated[
        list[str] | None, typer.Option(help="Id of the selected draft (order-select); default: all.")
    ] = None,
    appointment: Annotated[
        list[Path] | None, typer.Option(help="Appointment to book (JSON); repeatable.")
    ] = None,
    encounter: Annotated[str, typer.Option(help="Id of the encounter.", show_default=False)] = "",
    user: Annotated[str, typer.Option(help="Reference of the user.")] = "Practitioner/example",
    token_env: TokenOption = "",
    prefetch: Annotated[
        bool, typer.Option(help="Fill the prefetch templates, or let the service fetch everything.")
    ] = True,
    omit: Annotated[list[str] | None, typer.Option(metavar="KEY", help="Prefetch key to leave out.")] = None,
    failing: Annotated[
        list[str] | None, typer.Option("--fail", metavar="KEY", help="Prefetch key to send as failed.")
    ] = None,
    service: Annotated[
        str, typer.Option(metavar="URL", help="Base URL of a running service.", show_default=False)
    ] = "",
    language: LanguageOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Act as the EHR: build the hook request for a patient of any FHIR server, send it, print the cards."""
    from cds.cli import call as command
    from cds.cli.ehr import FhirServer, Question, resources_of
    from cds.cli.load import token_of
    from cds.cli.show import print_cards

    question = Question(
        patient=patient,
        user=user,
        encounter=encounter,
        drafts=resources_of(order or (), "draft"),
        selected=tuple(select or ()),
        appointments=resources_of(appointment or (), "appointment"),
    )
    data = command.Data(
        FhirServer(_base(fhir_server, "--fhir-server"), token_of(token_env)),
        command.Delivery.PREFETCH if prefetch else command.Delivery.PULL,
        frozenset(omit or ()),
        frozenset(failing or ()),
    )
    where = _base(service, "--service") if service else ""
    with explained():
        answer = command.waited(command.fire(service_id, question, data, where, _checked_language(language)))
    if as_json:
        print_json(answer)
    else:
        print_cards(answer["cards"], f"{service_id} for Patient/{patient}")


@app.command(
    epilog="Examples:\n\n"
    "`tcell-cds evaluate fixtures/requests/demo-crs-grade-3-1.json --explain`\n\n"
    "`tcell-cds evaluate request.json --scrub --output for-a-bug-report.json`\n\n"
    'A saved request is a hook body, or `{"request": body, "clock": instant}`. It is answered with '
    "what it carries: nothing is fetched. `--explain` is the place to look when a card is missing."
)
def evaluate(
    request: Annotated[Path, typer.Argument(help="Saved hook request (JSON).", metavar="REQUEST.json")],
    service_id: Annotated[
        str, typer.Option(help="Service; default: all rules of the hook.", show_default=False)
    ] = "",
    explain: Annotated[
        bool, typer.Option("--explain", help="Show which rule looked at what, and every prefetch key.")
    ] = False,
    scrub: Annotated[
        bool, typer.Option("--scrub", help="Write a de-identified copy fit for a bug report.")
    ] = False,
    chart: Annotated[
        Path | None, typer.Option(help="Bundle to fill the prefetch from.", show_default=False)
    ] = None,
    now: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S%z"],
            help="Clinical now; default: the request's clock.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Where --scrub writes; default: beside the request.", show_default=False),
    ] = None,
    language: LanguageOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Answer one saved hook request offline."""
    from cds.cli import evaluate as command

    with explained():
        outcome = asyncio.run(command.evaluated(request, service_id, chart, now, _checked_language(language)))
    if scrub:
        target = output or request.with_name(f"{request.stem}.scrubbed.json")
        span = timedelta(days=-365 - secrets.randbelow(3000))
        with explained():
            same = asyncio.run(command.write_scrubbed(outcome, span, target))
        if as_json:
            print_json({"written": str(target), "sameVerdicts": same})
        err.print(f"written: {target}. Read it before you send it.", markup=False)
        err.print(
            "It gives the same verdicts." if same else "It gives other verdicts: text that mattered is gone."
        )
        raise typer.Exit(0 if same else FAILED)
    command.show(outcome, explain=explain, as_json=as_json)
    if any(item.refusal is not None for item in outcome.results):
        raise typer.Exit(FAILED)


@app.command(
    epilog="Examples:\n\n`tcell-cds replay saved/`\n\n`tcell-cds replay saved/ --against hospital.toml`\n\n"
    "Results are kept in `DIR/.replay/<ruleset version>.json`, so that a later version can be "
    "compared with `--against`. With a site file the same requests run under both sets of numbers."
)
def replay(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="Folder of saved requests.")
    ],
    against: Annotated[
        str, typer.Option(metavar="VERSION-OR-SITE-FILE", help="What to compare with.", show_default=False)
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Answer a folder of saved requests and print which cards change."""
    from cds.cli import replay as command
    from cds.cli.ehr import CallError
    from cds.cli.offline import runtime_for

    paths = sorted(folder.glob("*.json"))
    if not paths:
        fail(f"{folder}: no *.json in it", USAGE)
    try:
        with explained():
            runtime = runtime_for(None, every_card=True)
            version = runtime.rulebook.version
            current = asyncio.run(command.results(runtime, tracked(paths, "answering")))
            if Path(against).is_file():
                site = runtime_for(None, Path(against), every_card=True)
                other = asyncio.run(command.results(site, tracked(paths, "with the site file")))
                before, after, names = current, other, (version, Path(against).name)
            else:
                kept = command.recorded(folder, against) if against or command.versions(folder) else None
                if against and kept is None:
                    known = ", ".join(command.versions(folder)) or "none"
                    fail(f"no site file and no recorded version {against}; recorded: {known}", USAGE)
                before, after, names = kept or current, current, (against or "last recorded", version)
    except CallError as error:
        fail(str(error))
    command.record(folder, version, current)
    found = command.changes(before, after)
    if as_json:
        print_json([change.as_json() for change in found])
    else:
        command.print_changes(found, len(paths), *names)


@app.command(
    epilog="`tcell-cds rules washout` lists one domain, `tcell-cds rules grading.crs` shows one rule."
)
def rules(
    wanted: Annotated[
        list[str] | None, typer.Argument(metavar="[RULE|DOMAIN]...", help="Rule ids or domains.")
    ] = None,
    language: LanguageOption = "",
    as_json: JsonFlag = False,
) -> None:
    """The rule catalogue: id, title, hooks, version, source, needed concepts."""
    from cds.cli import rules as command

    with explained():
        from cards.texts import language_of
        from cds.engine.rulebook import load_rulebook
        from cds.settings import load
        from fhir_mapping.terminology import load as load_terminology

        settings = load()
        book = load_rulebook(load_terminology(settings.site_map), settings.site_file)
        shown = language_of(_checked_language(language) or settings.language).value
    chosen = command.chosen(book, wanted or ())
    if as_json:
        print_json([command.described(rule, book) for rule in chosen])
    elif len(chosen) == 1 and wanted:
        command.print_rule(book, chosen[0], shown)
    else:
        command.print_catalogue(book, chosen, shown)


@app.command(
    epilog="Example: `tcell-cds load --fhir-server https://sandbox.example/fhir demo-crs-grade-3`. All demo "
    "patients are synthetic. `--remove` takes away every copy that carries the demo identifier."
)
def load(
    fixtures: Annotated[
        list[str], typer.Argument(metavar="FIXTURE...", help="Demo patient by name, or a Bundle (JSON).")
    ],
    fhir_server: FhirOption,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], help="Day on which the story happens; default: now.", show_default=False
        ),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the patients away again.")] = False,
    token_env: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Put demo patients on a FHIR server, their dates moved so that the story happens now."""
    from cds.cli import load as command
    from cds.cli.fixtures import load_story
    from cds.settings import load as load_settings

    base, token = _base(fhir_server, "--fhir-server"), command.token_of(token_env)
    if remove:
        deleted = command.waited(command.remove(base, [Path(name).stem for name in fixtures], token))
        if as_json:
            print_json(deleted)
        else:
            out.print(f"removed {len(deleted)} resources")
        return
    with explained():
        zone = load_settings().zone
    day: date | None = None if as_of is None else as_of.date()
    stories = [load_story(name) for name in fixtures]
    moved = [(story, command.span_to(story, day, datetime.now(UTC), zone)) for story in stories]
    loaded = command.waited(command.put(base, moved, token))
    if as_json:
        print_json([{"fixture": item.fixture, "before": item.before, "after": item.after} for item in loaded])
        return
    for item in loaded:
        if item.after.startswith("Patient/"):
            typer.echo(f"{item.fixture}: {item.after}")
    out.print(f"created {len(loaded)} resources; --json lists every id", style="dim")


@app.command(
    epilog="Example: `tcell-cds check http://127.0.0.1:8000`\n\n"
    "Item numbers are those of the project's CDS Hooks checklist. Exit code 1 if a check fails."
)
def check(
    url: Annotated[str, typer.Argument(help="Base URL of a running CDS Hooks service.")],
    as_json: JsonFlag = False,
) -> None:
    """Run the CDS Hooks conformance checklist against a running service."""
    import httpx

    from cds.cli import check as command

    base = _base(url, "URL")

    async def lines() -> list[command.Line]:
        async with httpx.AsyncClient(timeout=30) as client:
            found = []
            with busy("checking") as tell:
                async for line in command.run(command.Probe(client, base)):
                    tell(line.text)
                    found.append(line)
            return found

    try:
        found = asyncio.run(lines())
    except httpx.HTTPError as error:
        fail(f"{base}: {type(error).__name__}")
    if as_json:
        print_json([line.as_json() for line in found])
    else:
        command.print_lines(found, base)
    if any(line.verdict is command.Verdict.FAIL for line in found):
        raise typer.Exit(FAILED)


@app.command(
    epilog="Example: `tcell-cds codes chart.json --site-map to-fill-in.csv`\n\n"
    "`--site-map FILE` writes a CSV to fill in: set `concept_id` and name it in TCELL_CDS_SITE_MAP."
)
def codes(
    chart: Annotated[Path, typer.Argument(metavar="CHART.json", help="Bundle, resource or hook request.")],
    site_map: Annotated[
        Path | None, typer.Option(help="Write the codings not understood here.", show_default=False)
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Which codes of a chart are understood, and which need a row in the site map."""
    from cds.cli import codes as command
    from cds.cli.console import read_json

    data: Any = read_json(chart)
    with explained():
        from cds.settings import load
        from fhir_mapping.terminology import load as load_terminology

        terminology = load_terminology(load().site_map)
    found = command.judged(data, terminology)
    if site_map is not None:
        rows = command.write_site_map(found, site_map)
        err.print(f"{site_map}: {rows} rows to fill in", markup=False)
    if as_json:
        print_json([item.as_json() for item in found])
    else:
        command.print_codes(found)


@app.command(
    epilog="Example: `tcell-cds feedback --days 90 --json`. Reads the store of TCELL_CDS_DATABASE_URL. "
    "Cards are counted, not calls; of several answers to one card the latest counts."
)
def feedback(
    days: Annotated[int, typer.Option(min=1, max=3650, help="How many days back.")] = 28,
    as_json: JsonFlag = False,
) -> None:
    """Per rule: how often it fired, was accepted, overridden and why, and the trend."""
    from cds.cli import feedback as command

    with explained():
        from cds.settings import load

        url = load().database_url
        found = command.waited(url, days)
    if as_json:
        print_json(found.as_json())
    else:
        command.print_usage(found)
