import pytest

from cards.texts import Language, TextError, catalogue, entry, language_of, negotiate, word
from tests.cards.desk import RULE

EN, ZH = Language.EN, Language.ZH_TW


@pytest.mark.parametrize(
    ("header", "default", "expected"),
    [
        (None, EN, EN),
        (None, ZH, ZH),
        ("", ZH, ZH),
        ("zh", EN, ZH),
        ("zh-Hant", EN, ZH),
        ("zh-TW", EN, ZH),
        ("zh_TW", EN, ZH),
        ("zh-Hant-TW", EN, ZH),
        ("ZH-tw", EN, ZH),
        ("zh-HK", EN, ZH),
        ("zh-Hans, en;q=0.5", ZH, EN),
        ("zh-CN", EN, EN),
        ("en-GB,en;q=0.9", ZH, EN),
        ("en;q=0.4, zh-TW;q=0.8", EN, ZH),
        ("fr, de;q=0.8, en;q=0.1", ZH, EN),
        ("fr", ZH, ZH),
        ("zh-TW;q=0, en", ZH, EN),
        ("*", ZH, ZH),
        ("zh;q=high", EN, EN),
        ("zh;q=nan", EN, EN),
        ("en," * 5000, ZH, ZH),
    ],
)
def test_language_is_negotiated(header: str | None, default: Language, expected: Language) -> None:
    assert negotiate(header, default) is expected


def test_language_of_a_setting() -> None:
    assert language_of("zh-TW") is ZH
    assert language_of("en") is EN
    assert (EN.tag, ZH.tag) == ("en", "zh-TW")
    with pytest.raises(ValueError, match="neither en nor zh-TW"):
        language_of("fr")


@pytest.mark.usefixtures("example_texts")
class TestLookUp:
    def test_catalogue_is_read_once(self) -> None:
        assert catalogue(RULE, EN) is catalogue(RULE, EN)

    def test_common_keys_come_from_the_shared_file(self) -> None:
        assert entry("common.days", RULE, ZH) is catalogue("common", ZH)["common.days"]

    def test_own_word_beats_the_shared_one_and_shared_words_are_found(self) -> None:
        assert word("own", RULE, EN).text.pieces == (("own word", ""),)
        assert word("met", RULE, EN) is catalogue("common", EN)["word.met"]

    def test_unknown_key_word_and_catalogue_are_errors(self) -> None:
        with pytest.raises(TextError, match=r"en/washout\.example\.po has no summary\.other"):
            entry("summary.other", RULE, EN)
        with pytest.raises(TextError, match=r"word\.nonsense"):
            word("nonsense", RULE, EN)
        with pytest.raises(TextError, match="FileNotFoundError"):
            catalogue("washout.absent", EN)

    def test_plural_forms(self) -> None:
        days = catalogue("common", EN)["common.days"]
        assert days.many is not None
        assert catalogue("common", ZH)["common.days"].many is None
