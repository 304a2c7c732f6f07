"""The rule catalogue for pharmacists and physicians, in both languages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cards.sign_off import SignOff
from cds.docs.markdown import NOTICE, cell, table
from cds.engine.parameters import Parameter
from cds.engine.rule import Rule
from cds.engine.rulebook import Rulebook
from fhir_mapping.terminology import Terminology

_WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "title": "Rule catalogue",
        "intro": "Every rule as declared, with the clinical status of this project's own sign-off file. A "
        "hospital's sign-off file adds to it; the card says which holds. How to read a page: "
        "[reading the rules](../../reading-rules.md).",
        "status": "Clinical status", "draft": "draft, not yet reviewed by a clinician",
        "reviewed": "reviewed by {who} on {when}",
        "changed": "draft; version {version} was reviewed by {who} on {when}",
        "count": "Rules: {rules}. Reviewed: {reviewed}.", "rule": "rule", "called": "title",
        "version": "version", "hooks": "hooks", "source": "Source", "reads": "Looks at",
        "numbers": "Numbers", "table": "Table", "notes": "Known ambiguities",
        "rides": "Speaks on the card of",
        "helper": "Helper: gives no card", "off": "Off unless the site file enables it",
        "number": "number", "value": "value", "unit": "unit", "cited": "source", "limits": "site limits",
        "unverified": "not checked against the original",
    },
    "zh_TW": {
        "title": "規則目錄",
        "intro": "依宣告產生之全部規則，並列本專案簽核檔之臨床狀態。院所簽核檔另行補充；卡片上會註明。"
        "閱讀方式：[規則說明](../../reading-rules.zh-TW.md)。",
        "status": "臨床狀態", "draft": "草案，尚未經臨床人員審閱", "reviewed": "{who} 於 {when} 審閱",
        "changed": "草案；第 {version} 版曾由 {who} 於 {when} 審閱",
        "count": "規則：{rules} 條。已審閱：{reviewed} 條。", "rule": "規則", "called": "名稱",
        "version": "版本", "hooks": "hook", "source": "來源", "reads": "判讀項目",
        "numbers": "數值", "table": "表", "notes": "已知疑義", "rides": "併入此規則之卡片",
        "helper": "輔助規則：不出卡片", "off": "預設關閉，由院所設定檔啟用",
        "number": "名稱", "value": "數值", "unit": "單位", "cited": "來源", "limits": "院所可調範圍",
        "unverified": "尚未與原文核對",
    },
}  # fmt: skip
_FOLDERS = {"en": "en", "zh_TW": "zh-TW"}


def catalogue(book: Rulebook, sign_offs: Mapping[str, SignOff]) -> dict[str, str]:
    """Pages by path below docs/: an index of each language and one page per domain."""
    found: dict[str, str] = {}
    domains: dict[str, list[Rule]] = {}
    for rule in book.rules.values():
        domains.setdefault(rule.domain, []).append(rule)
    for language, folder in _FOLDERS.items():
        words = _WORDS[language]
        valid = [id for id, item in sign_offs.items() if item.version == book.rules[id].version]
        counted = words["count"].format(rules=len(book.rules), reviewed=len(valid))
        lines = [f"# {words['title']}", NOTICE, words["intro"], counted]
        for domain, rules in domains.items():
            listed = [
                f"| [{rule.id}]({domain}.md#{rule.id.replace('.', '')}) | {cell(rule.title[language])} "
                f"| {rule.version} | {_status(rule, sign_offs, words)} |"
                for rule in rules
            ]
            headings = table([words[key] for key in ("rule", "called", "version", "status")], ())
            lines += [f"## {domain}", "\n".join([*headings, *listed])]
            page = [f"# {domain}", NOTICE]
            for rule in rules:
                page += _rule(rule, language, book.terminology, _status(rule, sign_offs, words))
            found[f"rules/{folder}/{domain}.md"] = "\n\n".join(page) + "\n"
        found[f"rules/{folder}/index.md"] = "\n\n".join(lines) + "\n"
    return found


def _status(rule: Rule, sign_offs: Mapping[str, SignOff], words: Mapping[str, str]) -> str:
    found = sign_offs.get(rule.id)
    if found is None:
        return words["draft"]
    key = "reviewed" if found.version == rule.version else "changed"
    return cell(
        words[key].format(who=found.reviewed_by, when=found.reviewed_on.isoformat(), version=found.version)
    )


def _rule(rule: Rule, language: str, terminology: Terminology, status: str) -> list[str]:
    words = _WORDS[language]
    facts = [terminology.fact(fact) for fact in rule.facts]
    titles = [fact.title_en if language == "en" else fact.title_zh_tw for fact in facts]
    hooks = ", ".join(sorted(hook.value for hook in rule.hooks))
    url = f" <{rule.source.url}>" if rule.source.url else ""
    lines = [
        f"## {rule.id}",
        f"**{cell(rule.title[language])}** ({words['version']} {rule.version}; {words['hooks']}: {hooks})",
        f"{words['status']}: {status}",
        f"{words['source']}: {cell(rule.source.citation)}{url}",
    ]
    if rule.helper:
        lines.append(words["helper"])
    if not rule.enabled:
        lines.append(words["off"])
    if rule.rides_on:
        lines.append(f"{words['rides']} `{rule.rides_on}`")
    lines.append(f"{words['reads']}: {'; '.join(map(cell, titles))}")
    if rule.parameters.items:
        headings = [words[key] for key in ("number", "value", "unit", "limits", "cited")]
        rows = [_number(item, words) for item in rule.parameters.items.values()]
        lines += [f"### {words['numbers']}", "\n".join(table(headings, rows))]
    for name, rows_of in rule.parameters.tables.items():
        columns = list(dict.fromkeys(key for row in rows_of for key in row))
        shown = [[_shown(row.get(column, ""), language) for column in columns] for row in rows_of]
        lines += [f"### {words['table']}: {name}", "\n".join(table(columns, shown))]
    if rule.notes:
        lines += [f"### {words['notes']}", "\n".join(f"- {cell(note[language])}" for note in rule.notes)]
    return lines


def _number(item: Parameter, words: Mapping[str, str]) -> tuple[object, ...]:
    limits = "" if item.low is None and item.high is None else f"{_plain(item.low)}..{_plain(item.high)}"
    source = item.source if item.verified else f"{item.source} ({words['unverified']})"
    return f"`{item.name}`", _plain(item.value), item.unit, limits, source


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        return ", ".join(map(_plain, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(value: Any, language: str) -> str:
    """A table's cell; a text in both languages shows the one asked for."""
    if isinstance(value, Mapping):
        if set(value) == {"en", "zh_TW"}:
            return str(value[language])
        return "; ".join(f"{key}: {_shown(item, language)}" for key, item in value.items())
    if isinstance(value, frozenset | set):
        value = sorted(value, key=str)
    if isinstance(value, tuple | list):
        return ", ".join(_shown(item, language) for item in value)
    return _plain(value)
