"""The routes of the page: its files, the demo patients, the drug search. It holds no data of patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from cds.web.demo import Demo
from cds.web.drugs import Drugs
from fhir_mapping.terminology import Terminology

_STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_SAFE = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_routes(terminology: Callable[[], Terminology], demo: Demo | None = None) -> list[BaseRoute]:
    """Routes for `create_app`. `demo` None: the page starts without patients. `terminology` is asked on the
    first search."""
    files = {path.name: path.read_bytes() for path in _STATIC.iterdir() if path.suffix in _TYPES}
    drugs = Drugs(terminology)
    shown = orjson.dumps(_shown(demo))

    async def index(request: Request) -> Response:
        return Response(files["index.html"], headers=_SAFE, media_type=_TYPES[".html"])

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            return Response(status_code=404, headers=_SAFE)
        return Response(files[name], headers=_SAFE, media_type=_TYPES[Path(name).suffix])

    async def patients(request: Request) -> Response:
        return Response(shown, headers=_SAFE, media_type="application/json")

    async def search(request: Request) -> Response:
        found = drugs.search(request.query_params.get("q", ""))
        return Response(orjson.dumps(found), headers=_SAFE, media_type="application/json")

    return [
        Route("/", index, include_in_schema=False),
        Route("/ui/static/{name}", static, include_in_schema=False),
        Route("/ui/demo", patients, include_in_schema=False),
        Route("/ui/drugs", search, include_in_schema=False),
    ]


def _languages(texts: Mapping[str, str]) -> dict[str, str]:
    english = texts.get("en", "")
    return {"en": english, "zh-TW": texts.get("zh_TW") or english}


def _shown(demo: Demo | None) -> dict[str, Any]:
    if demo is None:
        return {"patients": []}
    return {
        "fhirServer": demo.fhir_server,
        "clock": demo.clock,
        "patients": [
            {
                "id": patient.id,
                "title": _languages(patient.title),
                "requests": [
                    {
                        "name": saved.name,
                        "asks": _languages(saved.asks),
                        "services": saved.services,
                        "request": saved.body,
                    }
                    for saved in patient.requests
                ],
            }
            for patient in demo.patients
        ],
    }
