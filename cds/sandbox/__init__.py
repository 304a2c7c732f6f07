"""An embedded FHIR R4 server for demos and tests: in memory, fault-injecting, never tidying."""

from cds.sandbox.faults import Fault, FaultKind
from cds.sandbox.server import FhirSandbox, Seen, create_fhir_app
from cds.sandbox.store import Store

__all__ = ["Fault", "FaultKind", "FhirSandbox", "Seen", "Store", "create_fhir_app"]
