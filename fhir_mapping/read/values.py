"""value[x] of an Observation or component (chart-facts 1.5, 2.1, 2.2; units-and-values section 1)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache

from fhir_mapping import units
from fhir_mapping.chart import Amount, LossReason, Quantity, Result, Value
from fhir_mapping.read.coding import Codes, codings, names_of
from fhir_mapping.read.shape import Json, boolean, number, obj, objs, text, whole
from fhir_mapping.read.times import Stamps
from fhir_mapping.read.traits import ResultRule, Traits
from fhir_mapping.terminology import YesNo

_COMPARATORS = frozenset({"<", "<=", ">=", ">"})
_HCG_NEGATIVE_BELOW, _HCG_POSITIVE_ABOVE = Decimal(5), Decimal(25)  # m[IU]/mL, chart-facts V8
_ANTI_HBS_POSITIVE_FROM = Decimal(10)  # m[IU]/mL, chart-facts V1
_GRADES = {f"grade_{n}": n for n in range(6)}
_NO_GROWTH = re.compile(r"^\s*(?:(?:no|not|negative|sterile|absent)\b|無|未|陰性)", re.IGNORECASE)
_ONLY_NO_GROWTH = re.compile(
    r"no (?:\w+ )?growth(?: to date| (?:after|at|for|in) \d+ ?(?:d|days?|h|hrs?|hours?))?"
    r"|無(?:細菌|黴菌)?生長",
    re.IGNORECASE,
)
_UNDECIDED_GROWTH = re.compile(r"flora|pending|in progress|preliminary|incubat|培養中|正常菌", re.IGNORECASE)
_GAPS = re.compile(r"[\s(\[（,，:：;；/]+")
_WRAPPING = " ()[]（）,，:：;；/"
_LONGEST_REMEMBERED = 80  # characters of a unit; keeps what is remembered small, whatever is sent
_NONE_DETECTED = frozenset(
    {"undetectable", "target not detected", "nd", "tnd", "none detected", "檢不出", "偵測不到"}
)
_POINTS = frozenset({"分", "點"})  # of a score; the first also means minutes


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value that is there and cannot be used."""

    reason: LossReason
    text: str = ""


class Values:
    """Reads values; one instance serves a whole chart."""

    __slots__ = ("_codes", "_stamps")

    def __init__(self, codes: Codes, stamps: Stamps) -> None:
        self._codes = codes
        self._stamps = stamps

    # -- numbers -----------------------------------------------------------------------------------------

    def quantity(self, raw: Json, traits: Traits) -> Quantity | Unreadable:
        """A Quantity in the concept's preferred unit; the reported number and unit stay beside it."""
        value = number(raw.get("value"))
        comparator = text(raw.get("comparator")) if "comparator" in raw else ""
        if value is None or (comparator and comparator not in _COMPARATORS):
            return Unreadable(LossReason.MALFORMED, _shown(raw))
        written = (text(raw.get("unit")), text(raw.get("code")), text(raw.get("system")))
        return _measured(value, comparator, written, traits)

    def limits(
        self, high: object, low: object, like: Quantity, traits: Traits
    ) -> tuple[Quantity | None, Quantity | None]:
        """Reference range limits (upper, lower); without a unit of its own a limit has its result's."""
        reported = like.reported.unit if like.reported is not None else like.unit
        return (
            None if high is None else _limit(high, like.unit, reported, traits),
            None if low is None else _limit(low, like.unit, reported, traits),
        )

    # -- qualitative -------------------------------------------------------------------------------------

    def _words(self, raw: object) -> Result | Unreadable | None:
        """Result of a CodeableConcept by code, else by its text; codes that differ say nothing."""
        vocabulary = self._codes.terminology
        said = {
            found for system, code in codings(raw) if (found := vocabulary.result(system, code)) is not None
        }
        if len(said) > 1:
            return Unreadable(LossReason.CONTRADICTORY, "contradictory result")
        for found in said:
            return Result(found.value)
        for name in names_of(raw):
            if (by_name := self._word(name)) is not None:
                return by_name
        return None

    def _word(self, written: str) -> Result | None:
        """Result of a whole text; laboratories have words of their own for nothing found."""
        found = self._codes.terminology.result(None, None, written)
        if found is not None:
            return Result(found.value)
        return Result.NEGATIVE if written.strip().casefold() in _NONE_DETECTED else None

    def interpretation(self, raw: object, traits: Traits) -> Result | None:
        """Result that `interpretation` says; normal and abnormal only where normal means negative."""
        vocabulary = self._codes.terminology
        for item in objs(raw):
            for system, code in codings(item):
                found = vocabulary.interpretation(system or None, code, traits.concept)
                if found is not None:
                    return Result(found.value)
        for item in objs(raw):
            for name in names_of(item):
                if (by_name := self._word(name)) is not None:
                    return by_name
        return None

    # -- value[x] ----------------------------------------------------------------------------------------

    def read(self, holder: Json, traits: Traits) -> Value | Unreadable:
        """The value of an Observation or component. An empty Value: asked, no result, or components only."""
        value = self._written(holder, traits)
        if isinstance(value, Unreadable):
            return value
        raw = holder.get("interpretation")
        if raw is not None and (said := self.interpretation(raw, traits)) is not None:
            value = self._beside(value, said, traits)
            if isinstance(value, Unreadable):
                return value
        if "dataAbsentReason" in holder and value.empty:
            reason = codings(holder.get("dataAbsentReason"))
            if reason:
                return Value(absent_reason=reason[0][1])
        return value

    def _beside(self, value: Value, said: Result, traits: Traits) -> Value | Unreadable:
        if value.result is None:
            judged = value.quantity is None or traits.rule is not ResultRule.NONE or traits.normal_is_negative
            return replace(value, result=said) if judged else value
        if value.detected_below_limit and said is Result.NEGATIVE:
            return replace(value, result=Result.NEGATIVE, detected_below_limit=False)
        if value.result is said:
            return value
        return Unreadable(LossReason.CONTRADICTORY, "contradictory result")

    def _written(self, holder: Json, traits: Traits) -> Value | Unreadable:
        if (raw := holder.get("valueQuantity")) is not None:
            return quantitative(obj(raw), traits, self)
        if (raw := holder.get("valueCodeableConcept")) is not None:
            return self._of_concept(raw, traits)
        if (raw := holder.get("valueInteger")) is not None:
            count = whole(number(raw))
            if count is None:
                return Unreadable(LossReason.MALFORMED, str(raw))
            if not traits.bare:
                return Unreadable(LossReason.UNIT, str(count))
            return _of_quantity(_measured(Decimal(count), "", ("", "", ""), traits), traits)
        if (raw := holder.get("valueBoolean")) is not None:
            flag = boolean(raw)
            if flag is None:
                return Unreadable(LossReason.MALFORMED)
            return Value(yes=flag, result=_result(flag), number=int(flag) if traits.integer else None)
        if (raw := holder.get("valueString")) is not None:
            return self._of_text(text(raw), traits)
        if (raw := holder.get("valueDateTime")) is not None:
            moment = self._stamps.read(raw)
            return Unreadable(LossReason.MALFORMED, text(raw)) if moment is None else Value(time=moment)
        if (raw := holder.get("valuePeriod")) is not None:
            start, end = self._stamps.period(raw)
            if start is None and end is None:
                return Unreadable(LossReason.MALFORMED)
            return Value(time=start or end, period_end=end)
        unread = next((key for key in holder if key.startswith("value") and key[5:6].isupper()), "")
        return Unreadable(LossReason.MALFORMED, unread) if unread else Value()

    def _of_concept(self, raw: object, traits: Traits) -> Value | Unreadable:
        concept = obj(raw)
        answers: set[str] = set()
        for coding in objs(concept.get("coding")):
            answers |= self._codes.read(coding).concepts
        shown = next(iter(names_of(raw)), "")
        if not answers:
            answers |= self._answers(shown, traits)
        said = self._words(raw)
        if isinstance(said, Unreadable):
            return said
        result = said
        below = "detected_below_limit" in answers
        if below:
            result = Result.POSITIVE
        if result is None and traits.rule is ResultRule.CULTURE:
            result = _growth(shown, bool(codings(raw)))
        yes = self._yes(raw)
        if result is None:  # "haemophagocytosis: no" says what `false` says
            result = _result(yes)
        grade = next((_GRADES[a] for a in sorted(answers) if a in _GRADES), None)
        value = Value(
            codes=tuple(sorted(answers)),
            result=result,
            detected_below_limit=below,
            yes=yes,
            number=grade,
            text=shown,
        )
        if traits.integer and grade is None and not answers:
            coded = (self._codes.terminology.score(traits.concept, *pair) for pair in codings(raw))
            points = next((score for score in coded if score is not None), None)
            total = self._score(shown, traits) if points is None else points
            if total is None and yes is None and traits.exact_unit:
                return Unreadable(LossReason.MALFORMED, shown or next((c for _, c in codings(raw)), ""))
            return replace(value, number=total)
        if value.empty:
            written = codings(raw)
            return replace(value, text=written[0][1]) if written else Unreadable(LossReason.MALFORMED)
        return value

    def _score(self, shown: str, traits: Traits) -> int | None:
        """The score that a text states exactly: "ECOG 1" (chart-facts S14), "2級"."""
        if traits.concept.endswith("_grade"):
            graded = self._codes.terminology.severity(None, None, shown)
            if graded is not None and not graded.derived:
                return graded.grade
        return _trailing_score(shown, traits)

    def _yes(self, raw: object) -> bool | None:
        vocabulary = self._codes.terminology
        pairs = codings(raw)
        answers = [vocabulary.yes_no(system, code) for system, code in pairs]
        found = next((answer for answer in answers if answer is not None), None)
        if found is None:
            found = vocabulary.yes_no(None, None, text(obj(raw).get("text")) or None)
        return None if found is None or found is YesNo.UNKNOWN else found is YesNo.YES

    def _of_text(self, written: str, traits: Traits) -> Value | Unreadable:
        if not written:
            return Unreadable(LossReason.MALFORMED)
        vocabulary = self._codes.terminology
        if (found := self._word(written)) is not None:
            return Value(result=found, text=written)
        said = vocabulary.yes_no(None, None, written)
        if said is not None:
            yes = None if said is YesNo.UNKNOWN else said is YesNo.YES
            return Value(yes=yes, result=_result(yes), text=written)
        if traits.rule is ResultRule.CULTURE and _ONLY_NO_GROWTH.fullmatch(written.rstrip(" .。")):
            return Value(result=Result.NEGATIVE, text=written)
        if (both := self._word_and_number(written, traits)) is not None:
            return both
        if (read := self._of_number(written, traits)) is not None:
            return replace(read, text=written) if isinstance(read, Value) else read
        if traits.integer and (score := self._score(written, traits)) is not None:
            return Value(number=score, text=written)
        answers = tuple(sorted(self._answers(written, traits)))
        if traits.exact_unit and not answers:
            return Unreadable(LossReason.MALFORMED, written)
        return Value(codes=answers, text=written)

    def _answers(self, shown: str, traits: Traits) -> frozenset[str]:
        """Answers by their exact name: drugs and devices, else one of the concept's own closed list."""
        found = self._codes.read({"text": shown}).concepts
        if found or not traits.answers:
            return found
        return frozenset(traits.answers).intersection(self._codes.terminology.by_name(shown))

    def _of_number(self, written: str, traits: Traits) -> Value | Unreadable | None:
        """None: the text is no number, or the concept has none."""
        parsed = units.parse_text_value(written)
        if parsed is None or not (traits.preferred or traits.bare):
            return None
        unit = parsed.unit_text if parsed.unit_text in _POINTS else parsed.unit or ""
        return _of_quantity(_measured(parsed.value, parsed.comparator, (unit, "", ""), traits), traits)

    def _word_and_number(self, written: str, traits: Traits) -> Value | Unreadable | None:
        """A result and its signal, load or titre in one text: "Reactive (12.3)", "< 34 IU/mL, not detected".

        The word is the result. None: the text is not exactly the two.
        """
        if traits.exact_unit and traits.rule is ResultRule.NONE:
            return None
        for gap in _GAPS.finditer(written):
            halves = [written[: gap.start()].strip(_WRAPPING), written[gap.end() :].strip(_WRAPPING)]
            for word, signal in (halves, halves[::-1]):
                said = self._word(word) if word else None
                if said is None or units.parse_text_value(signal) is None:
                    continue
                value = self._of_number(signal, traits)
                beside = value if isinstance(value, Value) else Value()
                both = self._beside(beside, said, traits)
                return replace(both, text=written) if isinstance(both, Value) else both
        return None


def quantitative(raw: Json, traits: Traits, values: Values) -> Value | Unreadable:
    """The value of a Quantity. The same few numbers come again and again: a plain one is read once."""
    get = raw.get
    value, unit, code, system = get("value"), get("unit", ""), get("code", ""), get("system", "")
    if "comparator" not in raw and _everyday(value, unit, code, system):
        return _remembered_value(value, unit, code, system, traits)
    return _of_quantity(values.quantity(raw, traits), traits)


def _everyday(value: object, unit: object, code: object, system: object) -> bool:
    """A JSON number with units of everyday length: worth remembering."""
    return (
        (type(value) is float or type(value) is int)
        and (type(unit) is str and type(code) is str and type(system) is str)
        and len(unit + code + system) <= _LONGEST_REMEMBERED
    )


@lru_cache(maxsize=16384, typed=True)  # typed: 1 and 1.0 both stay as sent
def _remembered_value(
    raw: int | float, unit: str, code: str, system: str, traits: Traits
) -> Value | Unreadable:
    value = number(raw)
    if value is None:
        return Unreadable(LossReason.MALFORMED, f"{raw} {text(unit)}".strip())
    return _of_quantity(_measured(value, "", (text(unit), text(code), text(system)), traits), traits)


def _of_quantity(quantity: Quantity | Unreadable, traits: Traits) -> Value | Unreadable:
    if isinstance(quantity, Unreadable):
        if not traits.exact_unit and quantity.reason is LossReason.UNIT and not traits.preferred:
            return Value(text=quantity.text)  # presence and date count, whatever the laboratory's unit
        return quantity
    if traits.rule is ResultRule.NONE and not traits.bare:
        return Value(quantity)
    result, below = _result_of_quantity(quantity, traits.rule)
    count = whole(quantity.value) if traits.bare and not quantity.comparator else None
    return Value(quantity=quantity, result=result, detected_below_limit=below, number=count)


def _result_of_quantity(quantity: Quantity, rule: ResultRule) -> tuple[Result | None, bool]:
    """The result that a number says, and whether it is a "detected below the limit"."""
    if rule is ResultRule.VIRAL_LOAD:
        if quantity.comparator in ("<", "<="):
            return Result.POSITIVE, True
        return (Result.POSITIVE if quantity.value > 0 else Result.NEGATIVE), False
    if rule is ResultRule.ANTI_HBS and quantity.unit == "m[IU]/mL":
        reached = quantity.at_least(_ANTI_HBS_POSITIVE_FROM)
        return (None if reached is None else Result.POSITIVE if reached else Result.NEGATIVE), False
    if rule is ResultRule.HCG and quantity.unit == "m[IU]/mL":
        return _hcg(quantity), False
    return None, False


def _result(yes: bool | None) -> Result | None:
    """A fact that is said to be so is positive, however it was said (chart-facts 2.1 and 2.2)."""
    return None if yes is None else Result.POSITIVE if yes else Result.NEGATIVE


def _growth(shown: str, coded: bool) -> Result | None:
    """Result of a culture whose value is neither positive nor negative: an organism, unless the words say
    that nothing grew or nothing is known yet."""
    if _NO_GROWTH.search(shown):
        return Result.NEGATIVE
    if _UNDECIDED_GROWTH.search(shown) or not (shown or coded):
        return None
    return Result.POSITIVE


def _measured(
    value: Decimal, comparator: str, written: tuple[str, str, str], traits: Traits
) -> Quantity | Unreadable:
    unit, code, system = written
    if traits.integer and unit in _POINTS:
        unit = ""
    canonical = units.canonical(unit or None, code or None, system or None) if unit or code else None
    if canonical is None and (traits.integer if unit or code else traits.bare):
        canonical = traits.preferred or "1"  # a score is a count, whatever is written behind it
    if canonical is None:
        return Unreadable(LossReason.UNIT, _as_written(value, comparator, written))
    converted, target = value, canonical
    if traits.preferred and canonical != traits.preferred:
        for wanted in (traits.preferred, *sorted(traits.also)):
            changed = units.convert(traits.concept, value, canonical, wanted)
            if changed is not None:
                converted, target = changed, wanted
                break
        else:
            if traits.exact_unit:
                return Unreadable(LossReason.UNIT, _as_written(value, comparator, written))
    if target == traits.preferred and not units.plausible(traits.concept, converted):
        return Unreadable(LossReason.UNIT, _as_written(value, comparator, written))
    return Quantity(converted, target, comparator, Amount(value, canonical))


def _limit(raw: object, unit: str, reported: str, traits: Traits) -> Quantity | None:
    """A limit as written, in the `unit` of its result that was reported in `reported`."""
    if not isinstance(raw, dict):
        return None
    get = raw.get
    value, own, code, system = get("value"), get("unit", ""), get("code", ""), get("system", "")
    if _everyday(value, own, code, system):
        return _remembered_limit(value, own, code, system, unit, reported, traits)
    return _read_limit(value, (text(own), text(code), text(system)), unit, reported, traits)


@lru_cache(maxsize=8192, typed=True)
def _remembered_limit(
    raw: int | float,
    own: str,
    code: str,
    system: str,
    unit: str,
    reported: str,
    traits: Traits,
) -> Quantity | None:
    """Laboratories write the same few limits again and again."""
    return _read_limit(raw, (text(own), text(code), text(system)), unit, reported, traits)


def _read_limit(
    raw: object, written: tuple[str, str, str], unit: str, reported: str, traits: Traits
) -> Quantity | None:
    value = number(raw)
    if value is None:
        return None
    if written[0] or written[1]:
        read = _measured(value, "", written, replace(traits, exact_unit=False))
        return read if isinstance(read, Quantity) and read.unit == unit else None
    if reported == unit:
        return Quantity(value, unit, reported=Amount(value, unit))
    changed = units.convert(traits.concept, value, reported, unit)
    return None if changed is None else Quantity(changed, unit, reported=Amount(value, reported))


def _hcg(quantity: Quantity) -> Result | None:
    if quantity.below(_HCG_NEGATIVE_BELOW):
        return Result.NEGATIVE
    if quantity.above(_HCG_POSITIVE_ABOVE):
        return Result.POSITIVE
    return None if quantity.comparator else Result.INDETERMINATE


def _trailing_score(shown: str, traits: Traits) -> int | None:
    """The score of a text that is exactly its scale and a number."""
    *scale, written = shown.split() or [""]
    read = units.parse_text_value(written)
    if read is None or read.comparator or read.unit_text or read.form is not units.TextForm.NUMBER:
        return None
    named = all(word.casefold() in traits.concept.split("_") for word in scale)
    return whole(read.value) if named and units.plausible(traits.concept, read.value) else None


def _as_written(value: Decimal, comparator: str, written: tuple[str, str, str]) -> str:
    return f"{comparator}{value} {written[0] or written[1]}".strip()


def _shown(raw: Json) -> str:
    value = raw.get("value")
    return f"{value if isinstance(value, (int, float, str)) else ''} {text(raw.get('unit'))}".strip()
