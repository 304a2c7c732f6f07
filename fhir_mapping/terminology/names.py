"""Exact names: one folding for both sides, never a substring.

Case, hyphens, spaces, full-width forms and look-alike Cyrillic and Greek letters are folded. A drug or
vaccine name may be followed by strength, form and salt words, by a biological suffix and by its diluent
("Imdelltra 10 mg", "dexamethasone sodium phosphate injection", "mosunetuzumab-axgb", "tocilizumab 576 mg in
NaCl 0.9% 100 mL IVPB").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable

_LOOK_ALIKE = str.maketrans(
    {
        letter: latin
        for latin, letters in {
            "a": "\u0430\u03b1\u0251",
            "b": "\u0432\u03b2",
            "c": "\u0441",
            "d": "\u0501",
            "e": "\u0435\u03b5",
            "g": "\u0261",
            "h": "\u043d\u04bb",
            "i": "\u0456\u03b9\u0131",
            "j": "\u0458",
            "k": "\u043a\u03ba",
            "m": "\u043c",
            "n": "\u03b7",
            "o": "\u043e\u03bf",
            "p": "\u0440\u03c1",
            "q": "\u051b",
            "s": "\u0455",
            "t": "\u0442\u03c4",
            "u": "\u03c5\u03bc",
            "v": "\u03bd",
            "w": "\u051d",
            "x": "\u0445\u03c7",
            "y": "\u0443",
            "-": "\u2010\u2011\u2012\u2013\u2014\u2212\u00b7",
        }.items()
        for letter in letters
    }
)
_SEPARATORS = re.compile(r"[\s_\-]+")

_NUMBER = r"\d[\d.,]*"
_UNIT = r"(?:mg|mcg|ug|ng|g|kg|ml|l|iu|miu|mu|u|units?|unt|meq|mmol|%|cells?|lf|pfu|hours?|hr|h|days?|d)"
_CELLS = rf"{_NUMBER}(?:\s*-\s*{_NUMBER})?\s*x\s*10\s*(?:exp|\^|e|\*)?\s*\d{{1,2}}\s*(?:cells?)?"
_STRENGTH = rf"{_CELLS}|{_NUMBER}\s*{_UNIT}?(?:\s*/\s*(?:{_NUMBER})?\s*(?:{_UNIT}|dose|vial|tab|cap|m2)?)*"
_FORM = (
    r"tablets?|tabs?|capsules?|caps?|injections?|injectable|inj|vials?|ampoules?|ampules?|amps?|solutions?|soln|sol"
    r"|suspensions?|susp|powder|lyophili[sz]ed|infusions?|concentrate|conc|for injection|for infusion"
    r"|intravenous|subcutaneous|intramuscular|intrathecal|ivpb|iv push|ivp|iv|sc|im|po|it|oral|premix|chemo"
    r"|syrup|prefilled|pre-filled|syringe"
    r"|pen|autoinjector|film|coated|f\.?c\.?|er|sr|xr|cr|ec|dr|odt|retard|cream|ointment|oint|gel|lotion|topical"
    r"|eye drops?|ear drops?|ophthalmic|otic|drops|nasal spray|nasal|spray|inhaler|inhalation|nebuli[sz]er"
    r"|suppository|suppositories|enema|patch|kit|bag|bottle|emulsion|pf|preservative free|brand|generic"
)
_SALT = (
    r"hydrochloride|hcl|sod(?:ium|\.)? phosphate|sod(?:ium|\.)? succinate|sodium|disodium|potassium"
    r"|phosphate|succinate"
    r"|acetate|acetonide|mesylate|mesilate|sulfate|sulphate|bitartrate|tartrate|maleate|fumarate|hemifumarate|citrate"
    r"|isethionate|isetionate|dihydrate|monohydrate|trihydrate|anhydrous|hydrate|axetil|besylate|tosylate"
    r"|dimesylate|malate|lactate|gluconate|trometamol|hydrobromide|nitrate|decanoate|valerate|propionate"
    r"|dipropionate|furoate"
)
_FORM_ZH = (
    r"注射用?凍晶粉末|注射用?凍晶|凍晶乾粉|凍晶|乾粉|注射液劑|注射液|注射劑|注射用|注射|輸注液|濃縮液|懸浮液|液劑|膜衣錠|口溶錠"
    r"|持續性藥效錠|錠劑|錠|軟膠囊|膠囊劑|膠囊|針筒|預充填|糖漿|粉末|乳膏|軟膏|凝膠|眼藥水|點眼液|耳滴劑|鼻噴劑|噴鼻劑|吸入劑|栓劑"
    r"|貼片|毫克|微克|公克|毫升|公升|單位"
)
_TAIL = re.compile(
    rf"(?:(?<![\s,;()/*+-])[\s,;()/*+-]+(?:{_STRENGTH}|{_FORM})(?=$|[\s,;()/.*+-])[\s,;().]*"
    rf"|(?<![\s(])[\s(]*(?:{_NUMBER}\s*)?(?:{_FORM_ZH})[\s)]*)$"
)
_SALT_TAIL = re.compile(rf"[\s,(]+(?:{_SALT})[\s)]*$")
# An infusion as an order screen writes it: "... in sodium chloride 0.9 % 100 mL", "... in D5W 250 mL".
_DILUENT = re.compile(
    rf"\s+in\s+(?:{_NUMBER}\s*%\s*)?"
    r"(?:sodium chloride|nacl|normal saline|saline|0\.9ns|ns|dextrose|glucose|d5w|d10w|sterile water"
    r"|water for injection|swfi|(?:lactated )?ringer'?s?)(?=$|[\s,;()]).*$"
)
_SUFFIX = re.compile(r"-[a-z]{4}$")
_VOLUME_FIRST = re.compile(r"^\d[\d.]* ml (?=[a-z])")  # RxNorm: "1 ML tarlatamab-dlle 10 MG/ML Injection"
# The strength that followed may have taken the closing bracket with it.
_PAIR = re.compile(r"^(.*\S)\s*[(\[]([^()\[\]]+)[)\]]?$")
_BILINGUAL = re.compile(r"^([\x20-\x7e]*[a-z][\x20-\x7e]*?)\s*([\u4e00-\u9fff]+)$")  # "actemra 安挺樂"
_MARK = r"[*#◎☆★●※~]\s*|\((?:自費|健保|公費|專案|臨採|管制|化療|高警訊|冷藏)[^()]{0,6}\)\s*"
_LEADING = re.compile(rf"^(?:{_MARK})*(?:(?:inj|injection|tab|tablets?|cap|capsules?|syrup)\.?\s+)?")
_QUOTED = re.compile(r"[\"“”「『]([^\"“”「」『』]*)[\"“”」』]")
_DRUG_KINDS = frozenset({"drug", "drug_class", "vaccine"})
_LONGEST = 120  # a longer text is not a name; keeps the regular expressions linear


def plain(text: str) -> str:
    """Case, width and look-alike letters folded; spaces and hyphens kept (one each)."""
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_LOOK_ALIKE)
    return " ".join(folded.split())


def fold(text: str) -> str:
    """The key under which a name is stored and looked up."""
    return _SEPARATORS.sub("", plain(text))


def _shorter(words: str) -> Iterable[str]:
    """The name without its trailing strength, form, salt and suffix, longest first."""
    while match := _TAIL.search(words):
        words = words[: match.start()].rstrip(" ,;(/")
        if not words:
            return
        yield words
    bare = words
    while match := _SALT_TAIL.search(bare):
        bare = bare[: match.start()].rstrip(" ,(")
        if not bare:
            return
        yield bare
        while tail := _TAIL.search(bare):
            bare = bare[: tail.start()].rstrip(" ,;(/")
            yield bare
    for base in (words, bare):
        if match := _SUFFIX.search(base):
            yield base[: match.start()]


class NameIndex:
    """Folded name -> concepts, with each concept's kind."""

    def __init__(self, names: Iterable[tuple[str, str]], kinds: dict[str, str]) -> None:
        self._kinds = kinds
        index: dict[str, dict[str, None]] = {}
        for name, concept in names:
            key = fold(name)
            if key:
                index.setdefault(key, {})[concept] = None
        self._index = {key: tuple(found) for key, found in index.items()}

    def _of(self, words: str, kinds: Collection[str] | None) -> tuple[str, ...]:
        found = self._index.get(_SEPARATORS.sub("", words), ())
        return found if kinds is None else tuple(c for c in found if self._kinds[c] in kinds)

    def find(self, text: str, kinds: Collection[str] | None = None) -> tuple[str, ...]:
        """Concepts with exactly this name; () when there is none."""
        if len(text) > _LONGEST:
            return ()
        words = plain(text).strip(" .,;:")
        if found := self._of(words, kinds):
            return found
        drug_kinds = _DRUG_KINDS if kinds is None else _DRUG_KINDS.intersection(kinds)
        if not drug_kinds:
            return ()
        return self._drug(words, drug_kinds)

    def _drug(self, words: str, kinds: Collection[str]) -> tuple[str, ...]:
        """A formulary name: marks and a form before it, strength, form and salt behind it."""
        bare = _DILUENT.sub("", _VOLUME_FIRST.sub("", _LEADING.sub("", words)))
        # Quotation marks hold the maker of a generic, dexamethasone "maker", or a brand.
        for spelling in dict.fromkeys(
            (bare, _QUOTED.sub(" ", bare).strip(), _QUOTED.sub(r" \1 ", bare).strip())
        ):
            for shorter in (spelling, *_shorter(spelling)):
                if found := self._of(shorter, kinds):
                    return found
                halves = _PAIR.match(shorter) or _BILINGUAL.match(shorter)
                if halves is None:
                    continue
                first, second = (
                    self._of(half, kinds) or self._stripped(half, kinds) for half in halves.groups()
                )
                if first and second:  # "brand (ingredient)": both halves must say the same
                    return tuple(c for c in first if c in second)
        return ()

    def _stripped(self, words: str, kinds: Collection[str]) -> tuple[str, ...]:
        for shorter in _shorter(words):
            if found := self._of(shorter, kinds):
                return found
        return ()
