"""The service with everything that a hospital needs around it: store, de-duplication, client tokens."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI

from cards.finding import Finding
from cds.access import ClientTokens, UsedTokens
from cds.app import Dependency, create_app
from cds.metrics import Metrics
from cds.pipeline import Overridden
from cds.protocol import HookRequest
from cds.settings import AuthMode, JwtClient, Settings
from cds.store import Identity, State, Store, Unavailable, site_key
from fhir_mapping.chart import Chart

log = logging.getLogger(__name__)

LOOK_UP_SECONDS = 0.02  # contract section 7: then the card repeats
REPLAY_SECONDS = 0.25  # to tell the other workers of a token


def store_of(settings: Settings, metrics: Metrics) -> Store:
    """The configured store; nothing is opened yet. Raises SettingsError."""
    key = site_key(settings.site_key.get_secret_value(), settings.site_key_file)
    return Store(
        settings.database_url,
        Identity(key),
        mode=settings.mode.value,
        retention_days=settings.retention_days,
        on_lost=metrics.lost,
    )


def repeats_of(store: Store, settings: Settings, metrics: Metrics) -> Overridden | None:
    """The look-up of overridden findings; None where the site switched it off."""
    hours = settings.override_hours
    if not hours:
        return None

    async def overridden(request: HookRequest, findings: Sequence[Finding], chart: Chart) -> Collection[int]:
        try:
            return await store.overridden(request, findings, chart, hours=hours, seconds=LOOK_UP_SECONDS)
        except Unavailable:
            metrics.not_looked_up()
            return ()

    return overridden


def tokens_of(
    settings: Settings, store: Store, metrics: Metrics, clients: Mapping[str, JwtClient] | None = None
) -> ClientTokens | None:
    """The check of client tokens; None where a gateway does it or nobody does. Raises SettingsError."""
    if settings.auth_mode is not AuthMode.JWT:
        return None

    async def first_use(issuer: str, token: str, expires: int) -> bool | None:
        try:
            return await store.use_token(issuer, token, expires, REPLAY_SECONDS)
        except Unavailable:
            metrics.unshared()
            return None

    return ClientTokens(settings, UsedTokens(first_use), on_refused=metrics.refused, clients=clients)


def service(
    settings: Settings, *, test_clients: Mapping[str, JwtClient] | None = None, **options: Any
) -> FastAPI:
    """The application that `tcell-cds serve` runs; `options` go to `create_app`.

    `test_clients` join the configured ones in a demo: their private keys are public.
    """
    metrics = Metrics()
    store = store_of(settings, metrics)
    clients = None if test_clients is None else {**settings.jwt_clients, **test_clients}
    tokens = tokens_of(settings, store, metrics, clients)

    async def store_is_up() -> bool:
        return await store.state() is State.UP

    dependencies: dict[str, Dependency] = {"store": store_is_up}
    resources: list[AbstractAsyncContextManager[Any]] = [store]
    if tokens is not None:
        dependencies["client-keys"] = tokens.keys_are_there
        resources.append(tokens)
    app = create_app(
        settings,
        authenticate=tokens,
        feedback=store.feedback,
        listeners=(store.answered,),
        overridden=repeats_of(store, settings, metrics),
        dependencies=dependencies,
        resources=resources,
        metrics=metrics,
        **options,
    )
    app.state.store = store
    return app
