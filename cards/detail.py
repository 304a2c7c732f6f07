"""The Markdown of a card: what the rule says, then what is missing, where it comes from, who reviewed it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

from cards.context import RenderContext, RuleInfo
from cards.finding import Bullet, Evidence, Finding, Heading, Missing, Paragraph, Shown, Table, Text, msg
from cards.texts import COMMON, catalogue
from cards.writer import Writer, Written
from fhir_mapping.chart import Amount, Flag, LossReason

_NO_LETTER = re.compile(r"[^a-z]+")
_LISTED = 8  # lines of one list of missing or unusable data; the rest is counted


def detail(finding: Finding, context: RenderContext) -> str:
    """The whole detail, GitHub-flavoured Markdown. Raises TextError where a text is missing."""
    sections = _blocks(finding, context.markdown)
    sections += _missing(finding, context.markdown)
    sections += _losses(finding, context.markdown)
    sections += _flags(finding.evidence, context.markdown)
    sections += _provenance(finding, context)
    return "\n\n".join(sections)


def _blocks(finding: Finding, writer: Writer) -> list[str]:
    """Paragraphs, headings and tables apart from each other, bullets in a row as one list."""
    sections: list[str] = []
    bullets: list[str] = []

    def close() -> None:
        if bullets:
            sections.append("\n".join(bullets))
            bullets.clear()

    for block in finding.detail:
        match block:
            case Bullet():
                bullets.append(f"- {writer.sentence(block.message, finding.rule)}")
                continue
            case Paragraph():
                section = writer.sentence(block.message, finding.rule)
            case Heading():
                section = f"### {writer.sentence(block.message, finding.rule)}"
            case Table():
                section = _table(block, finding.rule, writer)
        close()
        if section.strip():
            sections.append(section)
    close()
    return sections


def _table(table: Table, rule: str, writer: Writer) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(" ".join(cell.split()) for cell in cells) + " |"

    lines = [line(writer.message(cell, rule) for cell in table.header), "| --- " * len(table.header) + "|"]
    for row in table.rows:
        cells = [writer.shown(cell, rule) for cell in row[: len(table.header)]]
        lines.append(line([*cells, *[""] * (len(table.header) - len(cells))]))
    return "\n".join(lines)


def _listed(heading: str, lines: Sequence[str], writer: Writer) -> list[str]:
    if not lines:
        return []
    unique = list(dict.fromkeys(lines))
    shown = [f"- {line}" for line in unique[:_LISTED]]
    if len(unique) > _LISTED:
        shown.append(f"- {writer.common('and-more', count=len(unique) - _LISTED)}")
    return [f"**{heading}**", "\n".join(shown)]


def _line(what: str, why: str, text: str, writer: Writer) -> str:
    """ "what: why", with the reader's own word for it, or the unreadable text as written, where there is one.
    `what` and `why` are safe."""
    values: dict[str, Shown] = {"what": Written(what), "why": Written(why)}
    reader = f"common.loss.{_NO_LETTER.sub('-', text.lower())}"
    if reader in catalogue(COMMON, writer.language):
        return writer.common("line-because", **values, because=msg(reader))
    if text:
        return writer.common("line-as-written", **values, text=Text(text))
    return writer.common("line", **values)


def _missing_line(missing: Missing, writer: Writer) -> str:
    what = writer.concept(missing.concept)
    if missing.reason is LossReason.BEYOND_HORIZON and missing.text:
        return writer.common("line-read-back", what=Written(what), day=Text(missing.text))
    if missing.newest:
        return writer.common("line-newest", what=Written(what), day=Text(missing.newest))
    return _line(what, writer.word(missing.reason.value), missing.text, writer)


def _missing(finding: Finding, writer: Writer) -> list[str]:
    """What is missing and why. "Not on the chart" yields to another reason for the same thing."""
    explained = {m.concept for m in finding.missing if m.reason is not LossReason.NOT_ON_CHART}
    lines = [
        _missing_line(missing, writer)
        for missing in finding.missing
        if missing.reason is not LossReason.NOT_ON_CHART or missing.concept not in explained
    ]
    return _listed(writer.common("missing.heading"), lines, writer)


def _losses(finding: Finding, writer: Writer) -> list[str]:
    """Unusable entries that the missing list does not explain already."""
    explained = {missing.resource for missing in finding.missing if missing.resource}
    lines = [
        _line(
            writer.concept(loss.concept) if loss.concept else writer.escape(loss.resource or "?"),
            writer.word(loss.reason.value),
            loss.text,
            writer,
        )
        for loss in finding.losses
        if loss.resource not in explained
    ]
    return _listed(writer.common("losses.heading"), lines, writer)


def _flags(evidence: Sequence[Evidence], writer: Writer) -> list[str]:
    facts: dict[Flag, dict[str, None]] = {}
    for fact in evidence:
        for flag in sorted(fact.flags):
            name = writer.concept(fact.concept) if fact.concept else writer.escape(fact.reference)
            facts.setdefault(flag, {})[name] = None
    lines = [
        _line(writer.joined(list(names)), writer.word(flag.value), "", writer)
        for flag, names in facts.items()
    ]
    return _listed(writer.common("flags.heading"), lines, writer)


def _provenance(finding: Finding, context: RenderContext) -> list[str]:
    """Site values, citation, clinical status and the reminder that the clinician decides."""
    writer = context.markdown
    info = context.rules.get(finding.rule)
    lines: list[str] = []
    rules = dict.fromkeys((finding.rule, *(treatment.rule for treatment in finding.treatment)))
    owners = dict.fromkeys((*rules, *(owner for rule in rules for owner in _borrowed(rule, context))))
    changed = {text: None for rule in owners for text in _site_values(context.rules.get(rule), writer)}
    if changed:
        lines.append(writer.common("site-values", values=Written(writer.joined(list(changed)))))
    if info is not None:
        citations = dict.fromkeys(
            found.source.citation for rule in rules if (found := context.rules.get(rule)) is not None
        )
        lines.append(writer.common("source", citation="; ".join(citations)))
    lines.append(_status(finding.rule, info, context))
    return lines


def _borrowed(rule: str, context: RenderContext) -> Iterable[str]:
    info = context.rules.get(rule)
    return () if info is None else info.borrows


def _site_values(info: RuleInfo | None, writer: Writer) -> list[str]:
    if info is None:
        return []
    found: list[str] = []
    for parameter in info.parameters:
        if not parameter.site_value:
            continue
        match parameter.value:
            case Decimal():
                value = writer.amount(Amount(parameter.value, parameter.unit))
            case tuple():
                value = writer.escape(", ".join(map(str, parameter.value)))
            case other:
                value = writer.escape(str(other).lower() if isinstance(other, bool) else str(other))
        found.append(f"{writer.escape(parameter.name)} = {value}")
    return found


def _status(rule: str, info: RuleInfo | None, context: RenderContext) -> str:
    writer = context.markdown
    sign_off = context.sign_offs.get(rule)
    judgement = msg("common.judgement")
    if info is None:
        return writer.message(judgement, rule)
    if sign_off is None:
        return writer.common("closing", status=msg("common.status.draft"), judgement=judgement)
    key = "common.status.reviewed" if sign_off.version == info.version else "common.status.changed"
    status = msg(key, who=Text(sign_off.reviewed_by), when=sign_off.reviewed_on)
    return writer.common("closing", status=status, judgement=judgement)
