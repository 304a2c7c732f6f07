"""The service with everything that a hospital needs around it: store, de-duplication, client tokens."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

from fastapi import FastAPI

from cards.finding import Finding
from cds.app import create_app
from cds.metrics import Metrics
from cds.pipeline import Overridden
from cds.protocol import HookRequest
from cds.settings import Settings
from cds.store import Identity, State, Store, Unavailable, site_key
from fhir_mapping.chart import Chart

log = logging.getLogger(__name__)

LOOK_UP_SECONDS = 0.02  # contract section 7: then the card repeats


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


def service(settings: Settings, **options: Any) -> FastAPI:
    """The application that `tcell-cds serve` runs; `options` go to `create_app`."""
    metrics = Metrics()
    store = store_of(settings, metrics)

    async def store_is_up() -> bool:
        return await store.state() is State.UP

    return create_app(
        settings,
        feedback=store.feedback,
        listeners=(store.answered,),
        overridden=repeats_of(store, settings, metrics),
        dependencies={"store": store_is_up},
        resources=(store,),
        metrics=metrics,
        **options,
    )
