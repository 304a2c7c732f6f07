"""The response walker: every way in which an answer could break CDS Hooks, as readable lines.

It judges plain JSON (what `json.loads` gives), knows nothing of how the answer was made, and never raises.
Tests pass every response through it; `tcell-cds check` runs it against a live service.

Sources: CDS Hooks 2.0.1 (sections CDS Service Response, Discovery) and its logical model; the project's
contract for `house_problems`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

from cds.protocol.hooks import HOOKS, USER_TOKENS

LONGEST_SUMMARY = 139  # UTF-16 code units; the specification says fewer than 140 characters
LONGEST_TEMPLATE = 2000

_CARD = frozenset(
    {"uuid", "summary", "detail", "indicator", "source", "suggestions", "selectionBehavior", "links"}
    | {"overrideReasons", "extension"}
)
_SOURCE = frozenset({"label", "url", "icon", "topic"})
_SUGGESTION = frozenset({"label", "uuid", "isRecommended", "actions", "extension"})
_ACTION = frozenset({"type", "description", "resource", "resourceId", "extension"})
_LINK = frozenset({"label", "url", "type", "appContext", "autolaunchable", "extension"})
_CODING = frozenset({"code", "system", "display"})
_ORDER = {"delete": 0, "create": 1, "update": 2}
_SERVICE = frozenset(
    "hook title description id prefetch usageRequirements version hookVersion extension".split()
)

_RELATIVE_REFERENCE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}")
_REVERSE_DOMAIN = re.compile(r"[a-z][a-z0-9-]*(\.[A-Za-z0-9_-]+)+")
_RAW_HTML = re.compile(r"(?<!\\)<[A-Za-z/!?]")
_IMAGE = re.compile(r"(?<!\\)!\[")
_LINK_TARGET = re.compile(r"(?<!\\)\]\(\s*(?!https?://)([^)\s]*)", re.IGNORECASE)
_SCHEME = re.compile(r"\b(javascript:|vbscript:|data:[a-z]+/)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_TOKEN = re.compile(r"\{\{(.*?)\}\}")

# Elements that R5 has and R4 has not, by resource type; a dotted name goes one level down.
_R5_ONLY: Mapping[str, tuple[str, ...]] = {
    "MedicationRequest": (
        "medication",
        "reason",
        "informationSource",
        "statusChanged",
        "renderedDosageInstruction",
        "effectiveDosePeriod",
        "device",
        "dispenseRequest.dispenserInstruction",
    ),
    "ServiceRequest": ("reason", "focus", "bodyStructure", "code.concept", "code.reference"),
    "Appointment": ("class", "subject", "recurrenceTemplate", "virtualService", "note", "account", "reason"),
}


class _Problems:
    """Lines collected with the path at which each was found."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, path: str, text: str) -> None:
        self.lines.append(f"{path}: {text}")

    def text(self, holder: Mapping[str, Any], name: str, path: str) -> str:
        """A required non-empty string, or "" with a line."""
        value = holder.get(name)
        if isinstance(value, str) and value.strip():
            return value
        self.add(f"{path}.{name}", "a non-empty string is required")
        return ""

    def known(self, holder: Mapping[str, Any], names: frozenset[str], path: str) -> None:
        for name in holder:
            if name not in names:
                self.add(f"{path}.{name}", "unknown field")


def utf16_length(text: str) -> int:
    """Length in UTF-16 code units, as a JavaScript client counts it."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _empties(value: object, path: str, problems: _Problems, allowed: frozenset[str]) -> None:
    pending: list[tuple[object, str]] = [(value, path)]
    while pending:
        item, place = pending.pop()
        if item is None or (isinstance(item, str | list | dict) and not item and place not in allowed):
            problems.add(place, "null or empty")
        if isinstance(item, dict):
            pending += [(child, f"{place}.{key}" if place else str(key)) for key, child in item.items()]
        elif isinstance(item, list):
            pending += [(child, f"{place}[{number}]") for number, child in enumerate(item)]


def _objects(value: object, path: str, problems: _Problems) -> Iterator[tuple[dict[str, Any], str]]:
    """The objects of an array; anything else becomes a line."""
    if not isinstance(value, list):
        problems.add(path, "an array is required")
        return
    for number, item in enumerate(value):
        place = f"{path}[{number}]"
        if isinstance(item, dict):
            yield item, place
        else:
            problems.add(place, "an object is required")


def _absolute(value: object) -> bool:
    if not isinstance(value, str) or any(c.isspace() for c in value):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _url(holder: Mapping[str, Any], name: str, path: str, problems: _Problems) -> None:
    if name in holder and not _absolute(holder[name]):
        problems.add(f"{path}.{name}", "an absolute http(s) URL is required")


def _extension(holder: Mapping[str, Any], path: str, problems: _Problems) -> None:
    if "extension" not in holder:
        return
    value = holder["extension"]
    if not isinstance(value, dict):
        problems.add(f"{path}.extension", "an object is required")
        return
    for key in value:
        if not _REVERSE_DOMAIN.fullmatch(key):
            problems.add(f"{path}.extension", "keys are reverse-domain names")


def _shown_text(value: object, path: str, problems: _Problems) -> None:
    """Text that a client renders as Markdown: no HTML, no image, no link with another scheme."""
    if not isinstance(value, str):
        return
    for pattern, what in (
        (_RAW_HTML, "raw HTML"),
        (_SCHEME, "script or data URL"),
        (_IMAGE, "Markdown image"),
        (_LINK_TARGET, "link that is not http(s)"),
        (_CONTROL, "control character"),
    ):
        if pattern.search(value):
            problems.add(path, what)


def _uuid(holder: Mapping[str, Any], path: str, seen: set[str], problems: _Problems) -> None:
    if "uuid" not in holder:
        return
    value = holder["uuid"]
    try:
        bare = isinstance(value, str) and str(UUID(value)) == value.lower()
    except ValueError:
        bare = False
    if not bare:
        problems.add(f"{path}.uuid", "a bare UUID is required")
    elif value.lower() in seen:
        problems.add(f"{path}.uuid", "is used twice")
    else:
        seen.add(value.lower())


def problems(
    response: object,
    *,
    drafts: Mapping[str, Mapping[str, Any]] | None = None,
    validate_fhir: Callable[[Mapping[str, Any]], str] | None = None,
    system_actions_agreed: frozenset[str] = frozenset(),
) -> list[str]:
    """What is wrong with a hook response; empty when nothing is.

    `drafts` are the hook's draft orders by `Type/id`: updates and deletes must name one of them.
    `validate_fhir` gives the first fault of a resource ("" none), see `fhir_fault`. `systemActions` is a
    fault unless `system_actions_agreed` names its action types.
    """
    found = _Problems()
    if not isinstance(response, dict):
        found.add("response", "an object is required")
        return found.lines
    found.known(response, frozenset({"cards", "systemActions", "extension"}), "response")
    _empties(response, "", found, frozenset({"cards"}))
    _extension(response, "response", found)
    if "cards" not in response:
        found.add("cards", "is required")
    seen: set[str] = set()
    for card, path in _objects(response.get("cards", []), "cards", found):
        _card(card, path, seen, found, drafts, validate_fhir)
    if "systemActions" in response:
        for action, path in _objects(response["systemActions"], "systemActions", found):
            if action.get("type") not in system_actions_agreed:
                found.add(path, "a system action that was not agreed with the client")
            _action(action, path, found, drafts, validate_fhir)
    return found.lines


def _card(
    card: dict[str, Any],
    path: str,
    seen: set[str],
    found: _Problems,
    drafts: Mapping[str, Mapping[str, Any]] | None,
    validate_fhir: Callable[[Mapping[str, Any]], str] | None,
) -> None:
    found.known(card, _CARD, path)
    summary = found.text(card, "summary", path)
    if utf16_length(summary) > LONGEST_SUMMARY:
        found.add(f"{path}.summary", f"{utf16_length(summary)} characters, at most {LONGEST_SUMMARY}")
    if "\n" in summary:
        found.add(f"{path}.summary", "more than one line")
    _shown_text(summary, f"{path}.summary", found)
    if "detail" in card:
        _shown_text(found.text(card, "detail", path), f"{path}.detail", found)
    if card.get("indicator") not in ("info", "warning", "critical"):
        found.add(f"{path}.indicator", "info, warning or critical is required")
    _uuid(card, path, seen, found)
    _source(card.get("source"), f"{path}.source", found)
    _extension(card, path, found)
    if "suggestions" in card:
        if card.get("selectionBehavior") not in ("at-most-one", "any"):
            found.add(f"{path}.selectionBehavior", "at-most-one or any is required beside suggestions")
        recommended = 0
        for suggestion, place in _objects(card["suggestions"], f"{path}.suggestions", found):
            recommended += suggestion.get("isRecommended") is True
            _suggestion(suggestion, place, seen, found, drafts, validate_fhir)
        if recommended > 1 and card.get("selectionBehavior") == "at-most-one":
            found.add(f"{path}.suggestions", "more than one is recommended though at most one may be chosen")
    elif "selectionBehavior" in card:
        found.add(f"{path}.selectionBehavior", "without suggestions")
    if "overrideReasons" in card:
        codes: set[tuple[object, object]] = set()
        for reason, place in _objects(card["overrideReasons"], f"{path}.overrideReasons", found):
            found.known(reason, _CODING, place)
            for name in ("code", "system", "display"):
                found.text(reason, name, place)
            pair = (str(reason.get("system")), str(reason.get("code")))
            if pair in codes:
                found.add(place, "is offered twice")
            codes.add(pair)
    if "links" in card:
        for link, place in _objects(card["links"], f"{path}.links", found):
            _link(link, place, found)


def _source(source: object, path: str, found: _Problems) -> None:
    if not isinstance(source, dict):
        found.add(path, "is required")
        return
    found.known(source, _SOURCE, path)
    _shown_text(found.text(source, "label", path), f"{path}.label", found)
    _url(source, "url", path, found)
    _url(source, "icon", path, found)
    if "topic" in source:
        topic = source["topic"]
        if not isinstance(topic, dict):
            found.add(f"{path}.topic", "a Coding is required")
            return
        found.known(topic, _CODING, f"{path}.topic")
        found.text(topic, "code", f"{path}.topic")
        found.text(topic, "system", f"{path}.topic")


def _suggestion(
    suggestion: dict[str, Any],
    path: str,
    seen: set[str],
    found: _Problems,
    drafts: Mapping[str, Mapping[str, Any]] | None,
    validate_fhir: Callable[[Mapping[str, Any]], str] | None,
) -> None:
    if "actionSelectionBehavior" in suggestion:
        found.add(f"{path}.actionSelectionBehavior", "only for clients that are configured as supporting it")
    found.known(suggestion, _SUGGESTION | {"actionSelectionBehavior"}, path)
    _shown_text(found.text(suggestion, "label", path), f"{path}.label", found)
    _uuid(suggestion, path, seen, found)
    _extension(suggestion, path, found)
    if "isRecommended" in suggestion and not isinstance(suggestion["isRecommended"], bool):
        found.add(f"{path}.isRecommended", "true or false is required")
    if "actions" not in suggestion:
        return
    last = 0
    for action, place in _objects(suggestion["actions"], f"{path}.actions", found):
        _shown_text(found.text(action, "description", place), f"{place}.description", found)
        _action(action, place, found, drafts, validate_fhir)
        kind = action.get("type")
        rank = _ORDER.get(kind, last) if isinstance(kind, str) else last
        if rank < last:
            found.add(place, "deletes come first, then creates, then updates")
        last = rank


def _action(
    action: dict[str, Any],
    path: str,
    found: _Problems,
    drafts: Mapping[str, Mapping[str, Any]] | None,
    validate_fhir: Callable[[Mapping[str, Any]], str] | None,
) -> None:
    found.known(action, _ACTION, path)
    _extension(action, path, found)
    kind = action.get("type")
    if kind == "delete":
        reference = action.get("resourceId")
        if not isinstance(reference, str) or not _RELATIVE_REFERENCE.fullmatch(reference):
            found.add(f"{path}.resourceId", "a relative reference (MedicationRequest/x) is required")
        elif drafts is not None and reference not in drafts:
            found.add(f"{path}.resourceId", "is no draft of this hook")
        if "resource" in action:
            found.add(f"{path}.resource", "a delete carries no resource")
        return
    if kind not in ("create", "update"):
        found.add(f"{path}.type", "create, update or delete is required")
        return
    if "resourceId" in action:
        found.add(f"{path}.resourceId", "only a delete carries it")
    resource = action.get("resource")
    if not isinstance(resource, dict):
        found.add(f"{path}.resource", "a FHIR resource is required")
        return
    _resource(resource, f"{path}.resource", found, validate_fhir)
    if kind == "create":
        if "id" in resource:
            found.add(f"{path}.resource.id", "a new resource has no id")
        return
    reference = f"{resource.get('resourceType')}/{resource.get('id')}"
    if not isinstance(resource.get("id"), str):
        found.add(f"{path}.resource.id", "an updated resource keeps its id")
    elif drafts is not None:
        if reference not in drafts:
            found.add(f"{path}.resource", "is no draft of this hook")
        elif lost := sorted(set(drafts[reference]) - set(resource)):
            found.add(f"{path}.resource", f"an update carries the whole resource; {', '.join(lost)} left out")


def _resource(
    resource: dict[str, Any],
    path: str,
    found: _Problems,
    validate_fhir: Callable[[Mapping[str, Any]], str] | None,
) -> None:
    resource_type = found.text(resource, "resourceType", path)
    for name in _R5_ONLY.get(resource_type, ()):
        holder, _, inner = name.partition(".")
        value = resource.get(holder)
        if value is not None and (not inner or (isinstance(value, dict) and inner in value)):
            found.add(f"{path}.{name}", "an element of R5, not of R4")
    if validate_fhir is not None and (fault := validate_fhir(resource)):
        found.add(path, f"not valid FHIR R4: {fault}")


def fhir_fault(resource: Mapping[str, Any]) -> str:
    """The first fault that strict R4B models find in a resource, "" where none."""
    from fhir.resources.R4B import get_fhir_model_class
    from pydantic import ValidationError

    resource_type = resource.get("resourceType")
    try:
        model = get_fhir_model_class(str(resource_type))
    except (ValueError, LookupError, ImportError):
        return f"no resource type {resource_type}"
    try:
        model.model_validate(dict(resource))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return ""


def _link(link: dict[str, Any], path: str, found: _Problems) -> None:
    found.known(link, _LINK, path)
    found.text(link, "label", path)
    found.text(link, "url", path)
    _url(link, "url", path, found)
    kind = link.get("type")
    if kind not in ("absolute", "smart"):
        found.add(f"{path}.type", "absolute or smart is required")
    if "appContext" in link and kind != "smart":
        found.add(f"{path}.appContext", "only with a smart link")
    if "autolaunchable" in link:
        found.add(f"{path}.autolaunchable", "never on a safety card")


# --- what this project promises beyond CDS Hooks


def house_problems(response: object) -> list[str]:
    """What breaks the project's contract (section 4) in a hook response that CDS Hooks itself allows."""
    found = _Problems()
    cards = response.get("cards") if isinstance(response, dict) else None
    ranks = {"critical": 0, "warning": 1, "info": 2}
    last = 0
    for card, path in _objects(cards, "cards", found):
        rank = ranks.get(str(card.get("indicator")), 2)
        if rank < last:
            found.add(path, "cards are ordered critical, warning, info")
        last = max(last, rank)
        if "uuid" not in card:
            found.add(f"{path}.uuid", "every card has one")
        if rank < 2 and not card.get("overrideReasons"):
            found.add(f"{path}.overrideReasons", "every warning and critical card offers them")
        topic = card.get("source", {}).get("topic") if isinstance(card.get("source"), dict) else None
        rule = topic.get("code") if isinstance(topic, dict) else None
        if not isinstance(topic, dict) or topic.get("system") != "urn:tcell-cds:rule":
            found.add(f"{path}.source.topic", "names the rule (urn:tcell-cds:rule)")
        extension = card.get("extension")
        finding = extension.get("org.tcell-cds.finding") if isinstance(extension, dict) else None
        if not isinstance(finding, dict):
            found.add(f"{path}.extension", "carries org.tcell-cds.finding")
        else:
            if finding.get("rule") != rule:
                found.add(f"{path}.extension", "finding.rule is source.topic.code")
            for name in ("outcome", "rulesetVersion"):
                found.text(finding, name, f"{path}.extension.finding")
        recommended = 0
        for suggestion, place in _objects(card.get("suggestions", []), f"{path}.suggestions", found):
            recommended += suggestion.get("isRecommended") is True
            if "uuid" not in suggestion:
                found.add(f"{place}.uuid", "every suggestion has one")
        if recommended > 1:
            found.add(f"{path}.suggestions", "at most one is recommended")
    return found.lines


# --- discovery and errors


def discovery_problems(answer: object) -> list[str]:
    """What is wrong with the answer to `GET /cds-services`."""
    found = _Problems()
    if not isinstance(answer, dict):
        found.add("response", "an object is required")
        return found.lines
    _empties(answer, "", found, frozenset({"services"}))
    if "services" not in answer:
        found.add("services", "is required")
    pairs: set[tuple[str, str]] = set()
    for service, path in _objects(answer.get("services", []), "services", found):
        found.known(service, _SERVICE, path)
        hook, service_id = found.text(service, "hook", path), found.text(service, "id", path)
        found.text(service, "description", path)
        if "title" in service:
            found.text(service, "title", path)
        if "usageRequirements" in service:
            found.text(service, "usageRequirements", path)
        if service_id and re.search(r"[\s/?#]", service_id):
            found.add(f"{path}.id", "cannot stand in a URL path")
        if (service_id, hook) in pairs:
            found.add(path, "id and hook together are unique")
        pairs.add((service_id, hook))
        _extension(service, path, found)
        if "version" in service and not re.fullmatch(r"\d+\.\d+\.\d+", str(service["version"])):
            found.add(f"{path}.version", "the semantic version of CDS Hooks, e.g. 2.0.1")
        spec = HOOKS.get(hook)
        if spec is not None and "hookVersion" in service and service["hookVersion"] != spec.version:
            found.add(f"{path}.hookVersion", f"{hook} is published as {spec.version}")
        if "prefetch" in service:
            _prefetch(service["prefetch"], hook, f"{path}.prefetch", found)
    return found.lines


def _prefetch(prefetch: object, hook: str, path: str, found: _Problems) -> None:
    if not isinstance(prefetch, dict):
        found.add(path, "an object is required")
        return
    spec = HOOKS.get(hook)
    for key, template in prefetch.items():
        place = f"{path}.{key}"
        if not isinstance(template, str):
            found.add(place, "a string is required")
            continue
        for token in _TOKEN.findall(template):
            name = token.removeprefix("context.")
            if token in USER_TOKENS:
                continue
            if name == token or not re.fullmatch(r"[A-Za-z]+", name):
                found.add(place, f"{{{{{token}}}}} is not a root context field")
            elif spec is not None and name not in spec.tokens:
                found.add(place, f"{hook} has no prefetch token {name}")
        rest = _TOKEN.sub("x", template)
        if "{" in rest or "}" in rest:
            found.add(place, "a token is delimited by {{ and }}")
        if len(rest) > LONGEST_TEMPLATE:
            found.add(place, f"longer than {LONGEST_TEMPLATE} characters")
        _query(rest, place, found)


def _query(query: str, place: str, found: _Problems) -> None:
    """Only what every client can fill: instance read, or type search with plain tokens and dates."""
    target, _, parameters = query.partition("?")
    if not re.fullmatch(r"[A-Z][A-Za-z]+(/[^/]+)?", target):
        found.add(place, "a read (Type/id) or a type search (Type?...) is expected")
    for name, _ in parse_qsl(parameters, keep_blank_values=True):
        base, _, modifier = name.partition(":")
        if base.startswith("_") and base not in ("_count", "_sort", "_id", "_maxresults"):
            found.add(place, f"{base} is outside the prefetch subset")
        if modifier not in ("", "in") or "." in base:
            found.add(place, f"{name}: modifiers and chains are outside the prefetch subset")


def error_problems(status: int, body: object) -> list[str]:
    """What is wrong with the body of an answer that is not 2xx: it must be an OperationOutcome."""
    found = _Problems()
    if 200 <= status < 300:
        found.add("status", "is no error")
    if not isinstance(body, dict) or body.get("resourceType") != "OperationOutcome":
        found.add("body", "an OperationOutcome is required")
        return found.lines
    _empties(body, "", found, frozenset())
    for issue, path in _objects(body.get("issue"), "issue", found):
        if issue.get("severity") not in ("fatal", "error"):
            found.add(f"{path}.severity", "fatal or error is required")
        found.text(issue, "code", path)
        details = issue.get("details")
        shown = found.text(details, "text", f"{path}.details") if isinstance(details, dict) else ""
        if not shown:
            found.add(f"{path}.details", "a text is required")
        for text in (shown, issue.get("diagnostics")):
            if isinstance(text, str) and re.search(r"Traceback|File \"|Bearer [A-Za-z0-9]", text):
                found.add(path, "holds a stack trace or a token")
    if not body.get("issue"):
        found.add("issue", "at least one is required")
    return found.lines
