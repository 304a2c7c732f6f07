"""The embedded FHIR R4 server: one Starlette application, everything in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cds.sandbox.faults import Fault, FaultKind
from cds.sandbox.search import Query, UnknownParameterError, parse
from cds.sandbox.store import Resource, Store, new_id

_FHIR_JSON = "application/fhir+json"


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived, for tests."""

    method: str
    resource_type: str
    query: str
    authorization: str = field(default="", repr=False)


class _RefusedError(Exception):
    def __init__(self, status: int, code: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.code, self.text, self.headers = status, code, text, dict(headers or {})


@dataclass
class FhirSandbox:
    """The server's state; `app.state.sandbox` of the application that `create_fhir_app` makes.

    `token`: the only bearer token accepted, None = open. `latency` seconds before every answer. `page_cap`:
    most entries of one page, whatever `_count` says.
    """

    store: Store
    token: str | None = None
    latency: float = 0.0
    page_cap: int = 1000
    default_count: int = 50
    faults: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)

    async def handle(self, request: Request) -> Response:
        resource_type = request.path_params.get("resource_type", "")
        query = unquote(request.url.query)
        fault: Fault | None = None
        try:
            self.seen.append(
                Seen(request.method, resource_type, query, request.headers.get("authorization", ""))
            )
            if self.latency:
                await asyncio.sleep(self.latency)
            fault = next((f for f in self.faults if f.applies(resource_type, query)), None)
            if fault is not None:
                await self._before(fault)
            if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
                raise _RefusedError(401, "login", "a valid token is required", {"WWW-Authenticate": "Bearer"})
            status, body, headers = await self._route(request)
        except _RefusedError as refusal:
            outcome = {
                "resourceType": "OperationOutcome",
                "issue": [
                    {"severity": "error", "code": refusal.code, "diagnostics": refusal.text},
                ],
            }
            status, body, headers = refusal.status, outcome, refusal.headers
        if fault is not None and status == 200:
            return _after(fault, body, request)
        content = b"" if body is None else orjson.dumps(body)
        return Response(content, status, headers=headers, media_type=_FHIR_JSON)

    async def _before(self, fault: Fault) -> None:
        if fault.seconds:
            await asyncio.sleep(fault.seconds)
        if fault.kind is FaultKind.STATUS:
            headers = {"Retry-After": fault.retry_after} if fault.retry_after else None
            raise _RefusedError(fault.status, "exception", "fault on request", headers)
        if fault.kind is FaultKind.REDIRECT:
            raise _RefusedError(302, "exception", "moved", {"Location": "https://elsewhere.example/fhir"})

    async def _route(self, request: Request) -> tuple[int, Any, dict[str, str]]:
        resource_type = request.path_params.get("resource_type", "")
        resource_id = request.path_params.get("resource_id", "")
        if not resource_type:
            return self._bundle(await _json(request), request)
        if resource_type == "metadata":
            return 200, self._capabilities(), {}
        if request.method == "POST":
            if resource_id == "_search":
                form = (await request.body()).decode()
                return 200, self._search(resource_type, _pairs(form), request), {}
            return self._create(resource_type, await _json(request), request)
        if not resource_id:
            return 200, self._search(resource_type, list(request.query_params.multi_items()), request), {}
        if request.method == "PUT":
            return self._update(resource_type, resource_id, await _json(request))
        if request.method == "DELETE":
            self.store.remove(resource_type, resource_id)
            return 204, None, {}
        found = self.store.get(resource_type, resource_id)
        if found is None:
            raise _RefusedError(404, "not-found", f"no such {resource_type}")
        return 200, found, {}

    def _search(
        self, resource_type: str, parameters: list[tuple[str, str]], request: Request
    ) -> dict[str, Any]:
        try:
            query = parse(resource_type, parameters)
        except UnknownParameterError as error:
            raise _RefusedError(400, "not-supported", f"unknown parameter {error.name}") from None
        return self._page(query, query.run(self.store.all(resource_type)), resource_type, request)

    def _page(
        self, query: Query, found: list[Resource], resource_type: str, request: Request
    ) -> dict[str, Any]:
        base = str(request.base_url).rstrip("/")
        size = min(self.default_count if query.count is None else query.count, self.page_cap)
        page = found[query.offset : query.offset + size]
        links = [{"relation": "self", "url": f"{base}/{resource_type}?{urlencode(query.seen)}"}]
        if size and query.offset + size < len(found):
            onwards = [*query.seen, ("_offset", str(query.offset + size))]
            links.append({"relation": "next", "url": f"{base}/{resource_type}?{urlencode(onwards)}"})
        bundle: dict[str, Any] = {
            "resourceType": "Bundle",
            "type": "searchset",
            "total": len(found),
            "link": links,
        }
        if page:
            bundle["entry"] = [
                {
                    "fullUrl": f"{base}/{resource_type}/{resource.get('id', '')}",
                    "resource": resource,
                    "search": {"mode": "match"},
                }
                for resource in page
            ]
        return bundle

    def _create(self, resource_type: str, resource: Any, request: Request) -> tuple[int, Any, dict[str, str]]:
        self._check(resource, resource_type)
        resource_id = new_id()
        stored = {**resource, "id": resource_id}
        self.store.put(resource_type, resource_id, stored)
        location = f"{str(request.base_url).rstrip('/')}/{resource_type}/{resource_id}"
        return 201, stored, {"Location": location}

    def _update(self, resource_type: str, resource_id: str, resource: Any) -> tuple[int, Any, dict[str, str]]:
        self._check(resource, resource_type)
        new = self.store.put(resource_type, resource_id, resource)
        return 201 if new else 200, resource, {}

    @staticmethod
    def _check(resource: Any, resource_type: str) -> None:
        if not isinstance(resource, dict) or resource.get("resourceType") != resource_type:
            raise _RefusedError(400, "invalid", f"a {resource_type} is expected")

    def _bundle(self, bundle: Any, request: Request) -> tuple[int, Any, dict[str, str]]:
        """transaction and batch: POST, PUT, DELETE and GET entries; references among POSTs are rewritten."""
        if not isinstance(bundle, dict) or bundle.get("type") not in ("transaction", "batch"):
            raise _RefusedError(400, "invalid", "a transaction or batch Bundle is expected")
        entries = [entry for entry in bundle.get("entry") or () if isinstance(entry, dict)]
        new_ids: dict[int, str] = {}
        renamed: dict[str, str] = {}
        for number, entry in enumerate(entries):
            wish = entry.get("request", {})
            if wish.get("method") == "POST":
                new_ids[number] = new_id()
                renamed[str(entry.get("fullUrl", ""))] = f"{wish.get('url', '')}/{new_ids[number]}"
            elif wish.get("method") == "PUT":
                renamed[str(entry.get("fullUrl", ""))] = str(wish.get("url", ""))
        renamed.pop("", None)
        answers = [
            self._entry(entry, new_ids.get(number, ""), renamed, request)
            for number, entry in enumerate(entries)
        ]
        answer: dict[str, Any] = {"resourceType": "Bundle", "type": f"{bundle['type']}-response"}
        if answers:
            answer["entry"] = answers
        return 200, answer, {}

    def _entry(
        self, entry: Mapping[str, Any], assigned: str, renamed: Mapping[str, str], request: Request
    ) -> dict[str, Any]:
        wish = entry.get("request", {})
        resource_type, _, resource_id = str(wish.get("url", "")).partition("/")
        method = wish.get("method")
        if method == "POST":
            resource = _renamed(deepcopy(entry.get("resource")), renamed)
            self._check(resource, resource_type)
            stored = {**resource, "id": assigned}
            self.store.put(resource_type, assigned, stored)
            return {"response": {"status": "201", "location": f"{resource_type}/{assigned}"}}
        if method == "PUT":
            resource = _renamed(deepcopy(entry.get("resource")), renamed)
            self._check(resource, resource_type)
            new = self.store.put(resource_type, resource_id, resource)
            return {
                "response": {"status": "201" if new else "200", "location": f"{resource_type}/{resource_id}"}
            }
        if method == "DELETE":
            self.store.remove(resource_type, resource_id)
            return {"response": {"status": "204"}}
        if method == "GET" and "?" in resource_type:
            target, _, text = resource_type.partition("?")
            return {"response": {"status": "200"}, "resource": self._search(target, _pairs(text), request)}
        found = self.store.get(resource_type, resource_id) if method == "GET" else None
        if found is None:
            return {"response": {"status": "404" if method == "GET" else "400"}}
        return {"response": {"status": "200"}, "resource": found}

    def _capabilities(self) -> dict[str, Any]:
        statement: dict[str, Any] = {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": "2025-01-01",
            "kind": "instance",
            "software": {"name": "tcell-cds sandbox"},
            "fhirVersion": "4.0.1",
            "format": ["json"],
            "rest": [{"mode": "server"}],
        }
        if self.store.types:
            statement["rest"][0]["resource"] = [
                {
                    "type": resource_type,
                    "interaction": [
                        {"code": code} for code in ("read", "search-type", "create", "update", "delete")
                    ],
                }
                for resource_type in self.store.types
            ]
        return statement


def _after(fault: Fault, body: Any, request: Request) -> Response:
    """The answer that would have been right, spoiled."""
    if fault.kind is FaultKind.HTML:
        return Response("<html><body>Sign in</body></html>", media_type="text/html")
    if fault.kind is FaultKind.OUTCOME:
        body = {
            "resourceType": "OperationOutcome",
            "issue": [{"severity": "error", "code": "processing", "diagnostics": "fault on request"}],
        }
    if fault.kind in (FaultKind.FOREIGN_NEXT, FaultKind.ENDLESS_NEXT):
        url = (
            "https://elsewhere.example/fhir?page=2"
            if fault.kind is FaultKind.FOREIGN_NEXT
            else str(request.url)
        )
        body = {**body, "link": [{"relation": "next", "url": url}]}
    content = orjson.dumps(body)
    if fault.kind is FaultKind.TRUNCATED:
        content = content[: len(content) // 2]
    media_type = "text/plain" if fault.kind is FaultKind.CONTENT_TYPE else _FHIR_JSON
    return Response(content, media_type=media_type)


async def _json(request: Request) -> Any:
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        raise _RefusedError(400, "invalid", "the body is not JSON") from None


def _pairs(text: str) -> list[tuple[str, str]]:
    return parse_qsl(text, keep_blank_values=True)


def _renamed(value: Any, renamed: Mapping[str, str]) -> Any:
    """References to entries of the same Bundle become references to the stored resources."""
    if isinstance(value, dict):
        return {
            key: renamed.get(item, item)
            if key == "reference" and isinstance(item, str)
            else _renamed(item, renamed)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_renamed(item, renamed) for item in value]
    return value


def create_fhir_app(
    bundles: Iterable[object] = (),
    *,
    token: str | None = None,
    latency: float = 0.0,
    page_cap: int = 1000,
    default_count: int = 50,
    faults: Iterable[Fault] = (),
) -> Starlette:
    """A FHIR R4 server holding the resources of the Bundles. Its state is `app.state.sandbox`."""
    store = Store()
    for bundle in bundles:
        store.load(bundle)
    sandbox = FhirSandbox(store, token, latency, page_cap, default_count, list(faults))
    app = Starlette(
        routes=[
            Route("/", sandbox.handle, methods=["POST"]),
            Route("/{resource_type}", sandbox.handle, methods=["GET", "POST"]),
            Route("/{resource_type}/{resource_id}", sandbox.handle, methods=["GET", "PUT", "POST", "DELETE"]),
        ]
    )
    app.state.sandbox = sandbox
    return app
