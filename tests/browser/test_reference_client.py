"""The reference client of CDS Hooks (github.com/cds-hooks/sandbox) against the demo, in a real browser.

Runs where `CDS_HOOKS_SANDBOX` names the folder that its `npm run build` fills; docs/reference-client.md tells
how. Nothing of the client is kept in this repository.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from cds.cli.serve import RunningDemo
from tests.browser.conftest import demo_in_thread

BUILD = os.environ.get("CDS_HOOKS_SANDBOX", "")
ARTIFACTS = Path(__file__).parents[2] / "artifacts"
SLOW = 60_000  # the client asks every service of the hook, one prefetch key after the other

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not BUILD, reason="CDS_HOOKS_SANDBOX names no built client"),
]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def client() -> Iterator[str]:
    """The client's base URL, served from its build folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=BUILD))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def demo(client: str) -> Iterator[RunningDemo]:
    """The demo, its stories moved to today: the client dates its orders by the real clock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TCELL_CDS_CLOCK", datetime.now(UTC).isoformat(timespec="seconds"))
        patch.setenv("TCELL_CDS_CORS_ORIGINS", client)
        with demo_in_thread() as running:
            yield running


class Chart:
    """The client with one patient open; `posts` are the bodies it sent, `feedback` the answers it got."""

    def __init__(self, page: Any, client: str, demo: RunningDemo) -> None:
        self.page, self._client, self._demo = page, client, demo
        self.posts: list[dict[str, Any]] = []
        self.feedback: list[tuple[int, dict[str, Any]]] = []
        page.set_default_timeout(SLOW)
        page.route("https://**", lambda route: route.abort())  # its own demo services are elsewhere
        page.on("response", self._seen)

    def _seen(self, response: Any) -> None:
        request = response.request
        if request.method != "POST" or "/cds-services/" not in request.url:
            return
        body = json.loads(request.post_data)
        if request.url.endswith("/feedback"):
            self.feedback.append((response.status, body["feedback"][0]))
        else:
            assert response.status == 200, request.url
            self.posts.append(body)

    def open(self, patient: str, hook: str, screen: str) -> None:
        asked = {
            "fhirServiceUrl": self._demo.fhir,
            "serviceDiscoveryURL": f"{self._demo.base}/cds-services",
            "patientId": patient,
            "hook": hook,
            "screen": screen,
        }
        self.page.goto(f"{self._client}/?{urlencode(asked)}")

    def prescribe(self, typed: str, chosen: str) -> None:
        self.page.locator("input[name=medication-input]").fill(typed)
        self.page.get_by_text(chosen, exact=True).first.click()

    def told(self, count: int) -> dict[str, Any]:
        """The newest of `count` feedback items, all of which the service took."""
        for _ in range(100):
            if len(self.feedback) >= count:
                break
            self.page.wait_for_timeout(100)
        assert [status for status, _ in self.feedback] == [200] * count
        return self.feedback[-1][1]

    def ordered(self) -> set[str]:
        """The drugs of the orders sent so far, as written."""
        orders = [e["resource"] for post in self.posts for e in post["context"]["draftOrders"]["entry"]]
        return {order.get("medicationCodeableConcept", {}).get("text", "") for order in orders}

    def shot(self, name: str) -> None:
        ARTIFACTS.mkdir(exist_ok=True)
        self.page.screenshot(path=str(ARTIFACTS / f"reference-client-{name}.png"))


@pytest.fixture
def chart(browser: Any, client: str, demo: RunningDemo) -> Iterator[Chart]:
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    opened = Chart(context.new_page(), client, demo)
    yield opened
    opened.page.unroute_all(behavior="ignoreErrors")
    context.close()


def test_patient_view_shows_cards_and_takes_suggestion_dismissal_and_override(chart: Chart) -> None:
    chart.open("demo-crs-grade-3", "patient-view", "patient-view")
    chart.page.get_by_text("CRS grade 3").first.wait_for()
    chart.shot("patient-view")
    chart.page.get_by_role("button", name="Tocilizumab").first.click()
    assert chart.told(1)["outcome"] == "accepted"

    cards = chart.page.get_by_text("CRS grade 3")
    before = cards.count()
    chart.page.get_by_label("select dismiss reason").first.click()
    chart.page.get_by_role("menuitem").first.click()
    overridden = chart.told(2)
    assert overridden["overrideReason"]["reason"]["code"]
    chart.page.wait_for_timeout(500)
    assert cards.count() < before

    chart.page.get_by_role("button", name="Dismiss", exact=True).first.click()
    dismissed = chart.told(3)
    assert dismissed["outcome"] == "overridden"
    assert "overrideReason" not in dismissed


def test_a_suggestion_becomes_the_order_of_the_client(chart: Chart) -> None:
    chart.open("demo-infusion-day", "order-select", "rx-view")
    chart.prescribe("Dexamethasone 4", "Dexamethasone 4 MG Oral Tablet")
    chart.page.get_by_text("avoid systemic steroids").first.wait_for()
    chart.page.get_by_role("button", name="Order diphenhydramine").first.click()
    assert chart.told(1)["outcome"] == "accepted"
    for _ in range(200):
        if "diphenhydramine" in chart.ordered():
            break
        chart.page.wait_for_timeout(100)
    assert "diphenhydramine" in chart.ordered()


def test_order_select_judges_the_drug_that_is_prescribed(chart: Chart) -> None:
    chart.open("demo-washout-many-drugs", "order-select", "rx-view")
    chart.prescribe("Dexamethasone 4", "Dexamethasone 4 MG Oral Tablet")
    chart.page.get_by_text("7 days needed").first.wait_for()
    chart.shot("order-select")


def test_order_sign_judges_the_order(chart: Chart) -> None:
    chart.open("demo-washout-many-drugs", "order-sign", "rx-sign")
    chart.prescribe("Dexamethasone 4", "Dexamethasone 4 MG Oral Tablet")
    chart.page.get_by_role("button", name="Sign Order").click()
    chart.page.get_by_text("7 days needed").first.wait_for()
    chart.shot("order-sign")
    assert {post["hook"] for post in chart.posts} == {"order-sign"}
