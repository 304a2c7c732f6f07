"""Code system URIs: the canonical ones, and the other spellings under which they arrive."""

from __future__ import annotations

from collections.abc import Mapping

LOCAL = "urn:tcell-cds:concept"
LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
ATC = "http://www.whocc.no/atc"
CVX = "http://hl7.org/fhir/sid/cvx"
ICD10CM = "http://hl7.org/fhir/sid/icd-10-cm"
ICD10PCS = "http://www.cms.gov/Medicare/Coding/ICD10"
NHI_ORDER = "https://twcore.mohw.gov.tw/ig/twcore/CodeSystem/medical-service-payment-tw"
NHI_DRUG = "https://twcore.mohw.gov.tw/ig/twcore/CodeSystem/medication-nhi-tw"


def trimmed(system: str) -> str:
    """Spaces, trailing slash, `http`/`https` and a `|version` do not tell two systems apart."""
    text = system.strip().split("|", 1)[0].rstrip("/")
    if text[:8].lower() == "https://":
        return "http://" + text[8:]
    if text[:7].lower() == "http://":
        return "http://" + text[7:]
    return text.lower() if text[:4].lower() == "urn:" else text


class Systems:
    """Spelling of a system -> canonical URI; unknown systems are returned trimmed."""

    def __init__(self, aliases: Mapping[str, str]) -> None:
        canonical = {target: target for target in aliases.values()} | {LOCAL: LOCAL}
        self._known = {trimmed(k): v for k, v in {**canonical, **aliases}.items()}
        self._cache: dict[str, str] = {}

    def canonical(self, system: str) -> str:
        found = self._cache.get(system)
        if found is None:
            key = trimmed(system)
            found = self._known.get(key, key)
            if len(self._cache) < 1000:
                self._cache[system] = found
        return found

    def know(self, system: str) -> None:
        """A system that our codes use: its other spellings by case of scheme or slash lead to it."""
        self._known.setdefault(trimmed(system), system)

    def known(self, system: str) -> bool:
        return trimmed(system) in self._known

    def add(self, alias: str, target: str) -> None:
        self._known[trimmed(alias)] = self.canonical(target)
        self._cache.clear()
