"""Concepts of the project, the codes and names they arrive under, and the closed answer vocabularies.

All content is data: `data/*.csv`, one table per topic, each row with its source. `load()` reads it once.
Row ids and wording rules follow the chart-facts table; licences are in docs/terminology-licences.md.
"""

from fhir_mapping.terminology.model import Code, Concept, Fact, Result, Severity, YesNo
from fhir_mapping.terminology.site_map import SiteMapError
from fhir_mapping.terminology.tables import TableError
from fhir_mapping.terminology.terminology import Terminology, load

__all__ = [
    "Code",
    "Concept",
    "Fact",
    "Result",
    "Severity",
    "SiteMapError",
    "TableError",
    "Terminology",
    "YesNo",
    "load",
]
