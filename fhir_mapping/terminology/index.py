"""Code -> concepts, with the comparison rules of each code system."""

from __future__ import annotations

from fhir_mapping.terminology import systems as uri
from fhir_mapping.terminology.model import Concept

_UPPER = frozenset({uri.ATC, uri.LOINC, uri.NHI_DRUG, uri.NHI_ORDER})
_UNDOTTED = frozenset({uri.ICD10CM, uri.ICD10PCS})
_SHORTEST_ICD = 3


def comparable(system: str, code: str) -> str:
    """A code as compared within its system: ICD without its dot, CVX without leading zeros."""
    if system in _UPPER:
        return code.upper()
    if system in _UNDOTTED:
        return code.upper().replace(".", "")
    if system == uri.CVX and code.isascii() and code.isdigit():
        return str(int(code)) if len(code) <= _SHORTEST_ICD else code
    return code


class CodeIndex:
    """The codes of one verification status."""

    def __init__(self) -> None:
        self._exact: dict[tuple[str, str], list[str]] = {}
        self._atc_classes: dict[str, str] = {}

    def add(self, concept: Concept, system: str, code: str) -> None:
        """A drug class is an ATC prefix; everything else an exact code."""
        key = comparable(system, code)
        if concept.kind == "drug_class" and system == uri.ATC:
            self._atc_classes[key] = concept.id
        else:
            self._append(system, key, concept.id)

    def add_ingredient(self, concept: str, system: str, code: str) -> None:
        """One ingredient of a combination: found by the code, which is not a code of the ingredient."""
        self._append(system, comparable(system, code), concept)

    def _append(self, system: str, key: str, concept: str) -> None:
        found = self._exact.setdefault((system, key), [])
        if concept not in found:
            found.append(concept)

    def find(self, system: str, code: str) -> list[str]:
        """Concepts of a code; an ICD-10-CM code takes those of its longest listed parent."""
        key = comparable(system, code)
        if system == uri.ICD10CM:
            for length in range(len(key), _SHORTEST_ICD - 1, -1):
                if found := self._exact.get((system, key[:length])):
                    return found
            return []
        return self._exact.get((system, key), [])

    def owners(self, system: str, code: str) -> list[str]:
        """Concepts that list exactly this code, a class prefix included."""
        key = comparable(system, code)
        found = list(self._exact.get((system, key), ()))
        if system == uri.ATC and key in self._atc_classes:
            found.append(self._atc_classes[key])
        return found

    def classes_of_atc(self, code: str) -> list[str]:
        """Classes whose prefix covers the code, narrowest first."""
        key = code.upper()
        prefixes = (key[:length] for length in range(len(key), 0, -1))
        return [self._atc_classes[prefix] for prefix in prefixes if prefix in self._atc_classes]
