from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cards import escape
from cards.finding import Days, Hours, Items, Message, Name, Outcome, Shown, Text, msg
from cards.texts import Language, TextError
from cards.writer import RULE_TITLE, Writer, number, unit_symbol
from fhir_mapping.chart import Amount, Moment, Precision, Quantity, Route, instant, whole_day
from tests.cards.desk import NOW, RULE, context

pytestmark = pytest.mark.usefixtures("example_texts")


def _amount(value: str, unit: str) -> Amount:
    return Amount(Decimal(value), unit)


def _month(precision: Precision) -> Moment:
    return Moment(NOW.replace(day=1), NOW, precision)


class Own(StrEnum):
    OWN = "own"


SHOWN: list[tuple[Shown, str, str]] = [
    (date(2026, 3, 28), "2026-03-28", "2026-03-28"),
    (datetime(2026, 3, 28, 6, 30, tzinfo=UTC), "2026-03-28 14:30", "2026-03-28 14:30"),
    (instant(NOW), "2026-03-28 14:30", "2026-03-28 14:30"),
    (whole_day(date(2026, 3, 1), NOW), "2026-03-01", "2026-03-01"),
    (_month(Precision.MONTH), "2026-03", "2026-03"),
    (_month(Precision.YEAR), "2026", "2026"),
    (84, "84", "84"),
    (Decimal("0.50"), "0.5", "0.5"),
    (True, "yes", "是"),
    (Name("birth_date"), "Birth date", "出生日期"),
    (Name("unheard_of"), "unheard of", "unheard of"),
    (_amount("560.00", "mg"), "560 mg", "560 mg"),
    (_amount("1", "d"), "1 day", "1 天"),
    (_amount("7", "d"), "7 days", "7 天"),
    (_amount("95", "%"), "95%", "95%"),
    (_amount("0.5", "10*3/uL"), "0.5 × 10³/µL", "0.5 × 10³/µL"),
    (_amount("2E+8", "{cells}"), "200000000 cells", "200000000 個細胞"),
    (_amount("8", "{score}"), "8", "8"),
    (_amount("38.5", "Cel"), "38.5 °C", "38.5 °C"),
    (Quantity(Decimal(500), "/uL", "<"), "<500/µL", "<500/µL"),
    (Days(1), "1 day", "1 天"),
    (Days(38), "38 days", "38 天"),
    (Hours(Decimal("48.00")), "48 hours", "48 小時"),
    (Hours(1.25), "1.2 hours", "1.2 小時"),
    (Name("bendamustine"), "bendamustine", "bendamustine"),
    (Name("no_such_concept"), "no such concept", "no such concept"),
    (Outcome.NOT_MET, "not met", "未達標準"),
    (Route.INTRAVENOUS, "intravenous", "靜脈注射"),
    (Own.OWN, "own word", "自訂詞"),
    (Items(()), "", ""),
    (Items((Days(1),)), "1 day", "1 天"),
    (Items((1, 2, 3)), "1, 2 and 3", "1、2 與 3"),
    (Text("<b>"), "‹b>", "‹b>"),
    ("<b>", "‹b>", "‹b>"),
    (msg("detail.value", value=Text("x")), "Found: x", "結果：x"),
    (Message(RULE_TITLE, {}, RULE), "Drug-free interval", "停藥間隔"),
    (Message(RULE_TITLE, {}, "common.not-checked"), "Checks without an answer", "無法完成的檢核"),
    (Message(RULE_TITLE, {}, "washout.unheard-of"), "washout.unheard-of", "washout.unheard-of"),
]


@pytest.mark.parametrize(("value", "english", "chinese"), SHOWN, ids=lambda v: repr(v)[:40])
def test_values_are_written_by_their_type(value: Shown, english: str, chinese: str) -> None:
    assert context(Language.EN).plain.shown(value, RULE) == english
    shown = context(Language.ZH_TW).plain.shown(value, RULE)
    assert shown.removesuffix(" (班達莫司汀)") == chinese or shown.startswith(f"{chinese} (")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("560", "560"),
        ("560.0", "560"),
        ("1E+3", "1000"),
        ("-0.0", "0"),
        ("123.45678912", "123.4568"),
        ("0.00012345", "0.000123"),
        ("0.1", "0.1"),
        ("NaN", "NaN"),
    ],
)
def test_numbers_have_no_noise(value: str, expected: str) -> None:
    assert number(Decimal(value)) == expected


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9))
def test_up_to_four_decimals_a_number_is_exact(value: Decimal) -> None:
    assert Decimal(number(value)) == value


@pytest.mark.parametrize(
    ("unit", "shown"),
    [
        ("ug/kg/min", "mcg/kg/min"),
        ("ug", "mcg"),
        ("ug/L", "µg/L"),
        ("umol/L", "µmol/L"),
        ("mg/m2", "mg/m²"),
        ("m[IU]/mL", "mIU/mL"),
        ("10*6{cells}/kg", "10⁶ cells/kg"),
        ("mg/L{FEU}", "mg/L FEU"),
        ("mL/min/{1.73_m2}", "mL/min/1.73 m²"),
        ("mm[Hg]", "mmHg"),
    ],
)
def test_units_are_written_as_clinicians_write_them(unit: str, shown: str) -> None:
    assert unit_symbol(unit) == shown


class TestMessages:
    def writer(self) -> Writer:
        return context().markdown

    def test_placeholders_are_filled_and_escaped(self) -> None:
        message = msg("detail.found", when=date(2026, 3, 1), dose=Text("*9* <b>"))
        assert self.writer().message(message, RULE) == "Last dose **2026-03-01**: \\*9\\* &lt;b&gt;."

    def test_a_missing_value_is_an_error_that_tells_no_chart_value(self) -> None:
        with pytest.raises(TextError, match=r"detail\.found needs a value dose") as raised:
            self.writer().message(msg("detail.found", when=Text("secret")), RULE)
        assert "secret" not in str(raised.value)

    def test_a_nested_message_uses_the_catalogue_of_its_own_rule(self) -> None:
        nested = Message("detail.value", {"value": 1}, RULE)
        assert (
            context().plain.message(msg("common.line", what=nested, why=2), "dosing.example") == "Found: 1: 2"
        )

    def test_a_value_of_an_unknown_type_is_an_error(self) -> None:
        with pytest.raises(TextError, match="object"):
            self.writer().shown(object(), RULE)  # type: ignore[arg-type]

    def test_a_sentence_that_begins_with_a_drug_has_a_capital(self) -> None:
        message = msg("summary.plain", value=Name("bendamustine"))
        assert context().plain.sentence(message, RULE) == "Bendamustine"
        assert context().plain.sentence(msg("summary.plain", value="pH 7.2"), RULE) == "pH 7.2"

    def test_chart_text_is_cut(self) -> None:
        shown = context().plain.shown(Text("x" * 999))
        assert len(shown) == escape.CHART_TEXT_LIMIT


@pytest.mark.parametrize(
    ("items", "english", "chinese"),
    [
        (("ferritin", "fibrinogen"), "Ferritin and Fibrinogen", "血鐵蛋白與纖維蛋白原"),
        (("tocilizumab", "ferritin"), "tocilizumab and Ferritin", "tocilizumab (安挺樂) 與血鐵蛋白"),
        (("ferritin", "bendamustine"), "Ferritin and bendamustine", "血鐵蛋白與 bendamustine"),
    ],
)
def test_chinese_sets_a_blank_beside_latin_letters_only(
    items: tuple[str, ...], english: str, chinese: str
) -> None:
    value = Items(tuple(Name(item) for item in items))
    assert context(Language.EN).plain.shown(value) == english
    assert context(Language.ZH_TW).plain.shown(value) == chinese


@pytest.mark.parametrize(
    ("drugs", "expected"),
    [
        ("呼吸器 (HFNC)", "因過敏，故不建議：呼吸器 (HFNC) 及其他。"),
        ("ANC", "因過敏，故不建議：ANC 及其他。"),
        ("呼吸器", "因過敏，故不建議：呼吸器及其他。"),
        ("血小板 50%", "因過敏，故不建議：血小板 50% 及其他。"),
    ],
)
def test_chinese_sets_the_blank_that_a_text_could_not_foresee(drugs: str, expected: str) -> None:
    writer = context(Language.ZH_TW).plain
    assert writer._set(["因過敏，故不建議：", drugs, "及其他。"]) == expected


def test_a_chinese_order_is_set_without_a_gap() -> None:
    writer = context(Language.ZH_TW).plain
    assert writer.common("action.create", what=Name("ferritin")) == "開立血鐵蛋白"
    assert writer.common("action.create", what=Text("ferritin")) == "開立 ferritin"
