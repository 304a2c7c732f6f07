"""What data a call has: templates, key states, and the resolver that completes them from the FHIR server."""

from cds.prefetch.keys import BISPECIFICS, CAR_T_PRODUCTS, KEYS, PATIENT, SCOPE, KeySpec
from cds.prefetch.offered import OfferedTypes
from cds.prefetch.plan import Plan, Template, TemplateError, make_plan, substituted
from cds.prefetch.resolver import Fetched, Limits, Resolver
from cds.prefetch.states import Empty, Failed, Found, KeyState, NotAsked, Reason, coverage

__all__ = [
    "BISPECIFICS",
    "CAR_T_PRODUCTS",
    "KEYS",
    "PATIENT",
    "SCOPE",
    "Empty",
    "Failed",
    "Fetched",
    "Found",
    "KeySpec",
    "KeyState",
    "Limits",
    "NotAsked",
    "OfferedTypes",
    "Plan",
    "Reason",
    "Resolver",
    "Template",
    "TemplateError",
    "coverage",
    "make_plan",
    "substituted",
]
