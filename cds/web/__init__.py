"""The page at `/`, where a tester picks a patient and a hook and sees the cards as a clinician would."""

from cds.web.demo import Demo, DemoPatient, DemoRequest
from cds.web.explained import explained
from cds.web.routes import page_routes

__all__ = ["Demo", "DemoPatient", "DemoRequest", "explained", "page_routes"]
