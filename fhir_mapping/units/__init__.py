"""Units: a closed alias table, exact factors, analyte conversions and plausible limits. No UCUM parser.

A spelling that the table does not list is unknown and gives None: legal UCUM such as `K/uL` (kelvin per
microlitre) or `G/L` (gauss per litre) would otherwise be converted silently into nonsense.
"""

from fhir_mapping.units.aliases import canonical
from fhir_mapping.units.analytes import Analyte, Sex, UsualRange, analyte, default_unit, plausible, preferred
from fhir_mapping.units.conversion import convert, mass_mg, same_dimension
from fhir_mapping.units.text_value import ParsedValue, TextForm, parse_text_value

__all__ = [
    "Analyte",
    "ParsedValue",
    "Sex",
    "TextForm",
    "UsualRange",
    "analyte",
    "canonical",
    "convert",
    "default_unit",
    "mass_mg",
    "parse_text_value",
    "plausible",
    "preferred",
    "same_dimension",
]
