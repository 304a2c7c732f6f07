"""The HTTP application: routes, the wiring of the parts, and one place where failures become outcomes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import httpx
import orjson
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from cards.texts import warm
from cds import __version__
from cds.access import (
    FhirClient,
    JsonError,
    JsonFault,
    OutgoingGuard,
    TooLargeError,
    decode_json,
    read_limited,
)
from cds.collector import Collector
from cds.edge import Edge
from cds.metrics import CONTENT_TYPE, Metrics
from cds.openapi import openapi
from cds.pipeline import Answer, Overridden, Runtime, answer, build_runtime
from cds.prefetch import Failed, NotAsked
from cds.protocol import (
    FeedbackItem,
    IssueCode,
    ProtocolError,
    invalid,
    operation_outcome,
    parse_feedback,
)
from cds.settings import AuthMode, Mode, Settings, SettingsError, load

log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]
Authenticate = Callable[[Request], Awaitable[str]]
FeedbackSink = Callable[[str, Sequence[FeedbackItem]], Awaitable[None]]
Listener = Callable[[Answer], None]
Dependency = Callable[[], Awaitable[bool]]
Explain = Callable[[Answer, int], Mapping[str, Any]]

EXPLAIN = "/ui/explain/{service_id}"
_PICTURE_WIDTH = 620
_JSON = "application/json"
_FHIR_JSON = "application/fhir+json"
_NO_STORE = {"Cache-Control": "no-store"}


def create_app(
    settings: Settings | None = None,
    *,
    fhir_transport: httpx.AsyncBaseTransport | None = None,
    authenticate: Authenticate | None = None,
    feedback: FeedbackSink | None = None,
    listeners: Sequence[Listener] = (),
    routes: Sequence[BaseRoute] = (),
    overridden: Overridden | None = None,
    dependencies: Mapping[str, Dependency] | None = None,
    resources: Sequence[AbstractAsyncContextManager[Any]] = (),
    metrics: Metrics | None = None,
    explain: Explain | None = None,
) -> FastAPI:
    """The service. `settings` None: from the environment.

    `authenticate` gives the client's issuer or raises ProtocolError(401); `feedback` stores checked items;
    `listeners` see every answer after it was made; `routes` join the application (the tester's page);
    `overridden` tells which findings the user overrode before; `dependencies` tell by name whether they are
    up (readiness); `resources` are open as long as the application runs; `explain` tells the page how an
    answer came about, given the width of its pictures in pixels. Raises
    the errors of settings, rules, terminology and site file at once, so that a broken set-up never serves.
    """
    settings = load() if settings is None else settings
    if settings.auth_mode is AuthMode.JWT and authenticate is None:
        raise SettingsError("TCELL_CDS_AUTH_MODE=jwt, but no token check is wired in")
    for noisy in ("httpx", "httpcore"):  # they log URLs, which hold patient ids
        logging.getLogger(noisy).setLevel(logging.WARNING)
    client = FhirClient(
        OutgoingGuard(settings.fhir_allowed_hosts),
        timeout=settings.fhir_timeout_seconds,
        retries=settings.fhir_retries,
        response_bytes=settings.fhir_response_bytes,
        transport=fhir_transport,
    )
    runtime = build_runtime(settings, client)
    site = _Site(
        runtime, metrics or Metrics(), authenticate, feedback, listeners, overridden, dependencies or {}
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        warm(runtime.rulebook.rules)
        site.collector.start()
        async with AsyncExitStack() as stack:
            for resource in resources:
                await stack.enter_async_context(resource)
            yield
        await client.aclose()

    app = FastAPIOffline(title="tcell-cds", version=__version__, lifespan=lifespan, redoc_url=None)
    app.router.redirect_slashes = False
    app.state.runtime = runtime
    app.state.metrics = site.metrics
    app.openapi = lambda: openapi(runtime, settings.base_url)  # type: ignore[method-assign]
    app.add_middleware(Edge, origins=settings.cors_origins)
    app.add_exception_handler(HTTPException, site.refused)
    for path, handler, method in (
        ("/cds-services", site.discovery, "GET"),
        ("/cds-services/{service_id}", site.hook, "POST"),
        ("/cds-services/{service_id}/feedback", site.feedback, "POST"),
        ("/health/live", site.live, "GET"),
        ("/health/ready", site.ready, "GET"),
        ("/metrics", site.exposition, "GET"),
    ):
        app.add_route(path, site.guarded(handler, path), methods=[method], include_in_schema=False)
    if explain is not None:
        handler = partial(site.explained, explain)
        app.add_route(EXPLAIN, site.guarded(handler, EXPLAIN), methods=["POST"], include_in_schema=False)
    app.router.routes.extend(routes)
    return app


class _Site:
    """The handlers and what they share."""

    def __init__(
        self,
        runtime: Runtime,
        metrics: Metrics,
        authenticate: Authenticate | None,
        feedback_sink: FeedbackSink | None,
        listeners: Sequence[Listener],
        overridden: Overridden | None,
        dependencies: Mapping[str, Dependency],
    ) -> None:
        self.runtime, self.metrics = runtime, metrics
        self._overridden, self._dependencies, self._busy = overridden, dependencies, 0
        self._authenticate, self._feedback_sink, self._listeners = authenticate, feedback_sink, listeners
        self._discovery = orjson.dumps(runtime.discovery)
        self.collector = Collector()

    def guarded(self, handler: Handler, route: str) -> Handler:
        """The handler with every failure turned into an OperationOutcome, counted and logged without PHI."""

        async def endpoint(request: Request) -> Response:
            try:
                response = await handler(request)
            except ProtocolError as error:
                response = _failed(error)
            except ClientDisconnect:
                response = _failed(
                    ProtocolError(400, IssueCode.STRUCTURE, "the body did not arrive", "request")
                )
            except Exception as error:
                log.error(
                    "request failed",
                    extra={"error": type(error).__name__, "at": _place(error), "request_id": _id(request)},
                )
                response = _failed(
                    ProtocolError(
                        500,
                        IssueCode.EXCEPTION,
                        "the service failed; the failure was logged",
                        diagnostics=f"request {_id(request)}",
                    )
                )
            self.metrics.request(route, response.status_code)
            return response

        return endpoint

    async def refused(self, request: Request, error: Exception) -> Response:
        """404 and 405 of the router."""
        assert isinstance(error, HTTPException)
        self.metrics.request("none", error.status_code)
        codes = {404: IssueCode.NOT_FOUND, 405: IssueCode.NOT_SUPPORTED}
        texts = {404: "no such resource", 405: "this method is not supported here"}
        status = error.status_code
        return _failed(
            ProtocolError(
                status,
                codes.get(status, IssueCode.INVALID),
                texts.get(status, "the request was refused"),
                headers=error.headers,
            )
        )

    async def _client(self, request: Request) -> str:
        return "" if self._authenticate is None else await self._authenticate(request)

    async def discovery(self, request: Request) -> Response:
        await self._client(request)
        return Response(self._discovery, media_type=_JSON)

    async def hook(self, request: Request) -> Response:
        result = await self._answer(request, self._overridden)
        self.metrics.answered(result)
        _log_answer(result, request)
        for listener in self._listeners:
            try:
                listener(result)
            except Exception as error:  # the answer matters more than its audit
                log.error("listener failed", extra={"error": type(error).__name__, "at": _place(error)})
        return Response(orjson.dumps(result.response), headers=_NO_STORE, media_type=_JSON)

    async def explained(self, explain: Explain, request: Request) -> Response:
        """How the answer to the same body comes about. No hook of an EHR: not audited, not counted."""
        given = request.query_params.get("width", "")
        width = int(given) if given.isdecimal() and len(given) < 6 else _PICTURE_WIDTH
        result = await self._answer(request, None)
        shown = explain(result, width) if self.runtime.settings.mode is Mode.ACTIVE else {}
        return Response(orjson.dumps(shown), headers=_NO_STORE, media_type=_JSON)

    async def _answer(self, request: Request, overridden: Overridden | None) -> Answer:
        started = time.monotonic()
        client = await self._client(request)
        service_id = request.path_params["service_id"]
        self.runtime.service(service_id)  # unknown service before a body of any size is read
        if self._busy >= self.runtime.settings.concurrency:
            raise ProtocolError(
                503, IssueCode.THROTTLED, "too many calls at once", headers={"Retry-After": "1"}
            )
        self._busy += 1
        try:
            return await answer(
                self.runtime,
                service_id,
                await self._json(request),
                accept_language=request.headers.get("accept-language"),
                started=started,
                client=client,
                overridden=overridden,
            )
        finally:
            self._busy -= 1
            self.collector.call_ended()

    async def feedback(self, request: Request) -> Response:
        await self._client(request)
        service = self.runtime.service(request.path_params["service_id"])
        items = parse_feedback(await self._json(request))
        for item in items:
            self.metrics.feedback(service.id, item)
        if self._feedback_sink is not None:
            try:
                await self._feedback_sink(service.id, items)
            except Exception as error:  # a client that retries for ever helps nobody
                log.error("feedback not stored", extra={"error": type(error).__name__, "at": _place(error)})
        return Response(orjson.dumps({"received": len(items)}), media_type=_JSON)

    async def live(self, request: Request) -> Response:
        return Response(b'{"status":"live"}', media_type=_JSON)

    async def ready(self, request: Request) -> Response:
        rulebook = self.runtime.rulebook
        shown: dict[str, Any] = {
            "status": "ready",
            "version": __version__,
            "rulesetVersion": rulebook.version,
            "mode": self.runtime.settings.mode.value,
            "services": len(rulebook.services),
            "rules": len(rulebook.rules),
        }
        if refused := self.runtime.resolver.offered.refused():
            shown["notOffered"] = [{"server": server, "types": types} for server, types in refused.items()]
        if self._dependencies:
            # the service answers without them, so that it stays ready and says what is missing
            states = await asyncio.gather(*(is_up() for is_up in self._dependencies.values()))
            names = zip(self._dependencies, states, strict=True)
            shown["dependencies"] = {name: "up" if up else "down" for name, up in names}
        return Response(orjson.dumps(shown), media_type=_JSON)

    async def exposition(self, request: Request) -> Response:
        return Response(self.metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

    async def _json(self, request: Request) -> Any:
        """The decoded body, bounded. Raises ProtocolError: 400, 408, 413, 415."""
        settings = self.runtime.settings
        _check_media_type(request)
        try:
            async with asyncio.timeout(settings.body_seconds):
                data = await read_limited(
                    request.stream(), settings.body_bytes, request.headers.get("content-length")
                )
        except TooLargeError:
            raise ProtocolError(
                413, IssueCode.TOO_LONG, f"is larger than {settings.body_bytes} bytes", "request"
            ) from None
        except TimeoutError:
            raise ProtocolError(408, IssueCode.TIMEOUT, "did not arrive in time", "request") from None
        try:
            return decode_json(data, resources="prefetch")
        except JsonError as error:
            deep = error.fault is JsonFault.TOO_DEEP
            raise invalid("is nested too deeply" if deep else "is not JSON", "request") from None


def _log_answer(result: Answer, request: Request) -> None:
    """One line per call: which service, how long, how many cards; never about whom."""
    if not log.isEnabledFor(logging.INFO):
        return
    fetched = result.fetched
    states = {} if fetched is None else fetched.states
    log.info(
        "hook answered",
        extra={
            "request_id": _id(request),
            "service": result.service.id,
            "ms": round(result.seconds * 1000),
            "cards": len(result.response["cards"]),
            "asked": list(fetched.asked) if fetched is not None else [],
            "unread": {k: s.reason.value for k, s in states.items() if isinstance(s, Failed | NotAsked)},
            "notes": sorted(note.value for note in result.request.notes),
        },
    )


def _check_media_type(request: Request) -> None:
    """JSON is required; a missing header is forgiven, because the body then speaks for itself."""
    given = request.headers.get("content-type")
    if given is not None and given.partition(";")[0].strip().lower() != _JSON:
        raise ProtocolError(415, IssueCode.NOT_SUPPORTED, f"{_JSON} is expected", "Content-Type")
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        raise ProtocolError(415, IssueCode.NOT_SUPPORTED, "no encoding is supported", "Content-Encoding")


def _failed(error: ProtocolError) -> Response:
    content = orjson.dumps(operation_outcome(error))
    return Response(content, error.status, headers=_NO_STORE | error.headers, media_type=_FHIR_JSON)


def _id(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))


def _place(error: BaseException) -> str:
    """File and line of the failure. Exception texts may quote the chart, so they are never logged."""
    traceback = error.__traceback__
    if traceback is None:
        return ""
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"{traceback.tb_frame.f_code.co_filename.rpartition('/')[2]}:{traceback.tb_lineno}"
