"""Titles and descriptions of the services, as an EHR administrator reads them in discovery."""

from __future__ import annotations

from collections.abc import Mapping

from cards.texts import Language
from cds.engine.rule import Hook
from cds.engine.rulebook import Service

Pair = tuple[str, str]  # title, description

_DOMAINS: Mapping[Language, Mapping[str, Pair]] = {
    Language.EN: {
        "grading": ("Toxicity grading", "Grades CRS, ICANS, IEC-HS, ICAHT, TLS, with treatment steps."),
        "washout": ("Drug intervals", "Intervals of drugs before leukapheresis, lymphodepletion, infusion."),
        "dosing": ("Doses and schedules", "Doses, step-up schedules, holds and treatment orders."),
        "readiness": ("Readiness", "Checklists before each step of CAR-T and bispecific therapy."),
        "vaccination": ("Vaccination", "Vaccines before and after CAR-T and during bispecific therapy."),
        "follow-up": ("Follow-up", "Work-up, prophylaxis, monitoring and schedules after the infusion."),
        "": ("All checks", "Every check of this hook in one call."),
    },
    Language.ZH_TW: {
        "grading": ("毒性分級", "CRS、ICANS、IEC-HS、ICAHT、TLS 分級與處置建議。"),
        "washout": ("藥物間隔", "白血球分離、淋巴清除與輸注前的停藥間隔。"),
        "dosing": ("劑量與時程", "劑量、階梯給藥時程、暫停與治療醫囑。"),
        "readiness": ("準備度", "CAR-T 與雙特異性抗體治療各步驟前的檢核表。"),
        "vaccination": ("疫苗接種", "CAR-T 前後與雙特異性抗體治療期間的疫苗。"),
        "follow-up": ("追蹤", "輸注後的檢查、預防用藥、監測與時程。"),
        "": ("全部檢核", "一次呼叫執行此 hook 的所有檢核。"),
    },
}
_HOOKS: Mapping[Language, Mapping[Hook, str]] = {
    Language.EN: {
        Hook.PATIENT_VIEW: "on opening the chart",
        Hook.ORDER_SELECT: "on selecting orders",
        Hook.ORDER_SIGN: "on signing orders",
        Hook.ENCOUNTER_START: "on starting an encounter",
        Hook.ENCOUNTER_DISCHARGE: "on discharge",
        Hook.APPOINTMENT_BOOK: "on booking an appointment",
    },
    Language.ZH_TW: {
        Hook.PATIENT_VIEW: "開啟病歷時",
        Hook.ORDER_SELECT: "選擇醫囑時",
        Hook.ORDER_SIGN: "簽署醫囑時",
        Hook.ENCOUNTER_START: "就醫開始時",
        Hook.ENCOUNTER_DISCHARGE: "出院時",
        Hook.APPOINTMENT_BOOK: "預約時",
    },
}


def describe(service: Service, language: Language) -> Pair:
    """Title and description (Markdown) of a service."""
    title, description = _DOMAINS[language][service.domain]
    when = _HOOKS[language][service.hook]
    rules = ", ".join(rule.id for rule in service.rules)
    if language is Language.ZH_TW:
        return f"CAR-T/雙特異性抗體：{title}({when})", f"{description} 規則：{rules}。"
    return f"CAR-T and bispecifics: {title.lower()} {when}", f"{description} Rules: {rules}."
