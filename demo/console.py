"""A person at the dashboard, played through the same HTTP interface: look, start and complete work."""

from __future__ import annotations

from datetime import datetime
from types import TracebackType
from typing import Any

import httpx

TIMEOUT_S = 10.0


class Console:
    """One signed-in user of the fleet server. Raises httpx.HTTPError when the server refuses or is away."""

    def __init__(self, base_url: str, login: str, password: str) -> None:
        self._client = httpx.Client(base_url=base_url, timeout=TIMEOUT_S, trust_env=False)
        token = self._post("/api/login", {"login": login, "password": password})["token"]
        self._client.headers["Authorization"] = f"Bearer {token}"

    def case_of(self, asset_id: str, slot: str) -> dict[str, Any] | None:
        """The newest case of a component, whole, or None."""
        cases = [one for one in self._get("/api/cases", asset_id=asset_id, limit=50)["items"] if one["slot"] == slot]
        if not cases:
            return None
        newest = max(cases, key=lambda case: case["opened_at"])
        return self.case(newest["case_id"])

    def case(self, case_id: str) -> dict[str, Any]:
        return self._get(f"/api/cases/{case_id}")

    def work_orders(self) -> list[dict[str, Any]]:
        """Those that are not completed, with ``starts_at`` as a time."""
        orders = self._get("/api/work-orders", limit=100)["items"]
        return [{**order, "starts_at": datetime.fromisoformat(order["starts_at"])} for order in orders]

    def asset(self, asset_id: str) -> dict[str, Any]:
        return self._get(f"/api/assets/{asset_id}")

    def start(self, work_order_id: str) -> None:
        self._post(f"/api/work-orders/{work_order_id}/start", {})

    def complete(self, work_order_id: str, failure_mode: str, new_serial: str, note: str) -> None:
        report = {"failure_mode": failure_mode, "replaced": True, "new_serial": new_serial, "note": note}
        self._post(f"/api/work-orders/{work_order_id}/complete", report)

    def ledger(self) -> dict[str, Any]:
        return self._get("/api/ledger")

    def audit(self) -> dict[str, Any]:
        return self._get("/api/audit/status")

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _get(self, path: str, **params: Any) -> dict[str, Any]:
        answer = self._client.get(path, params=params)
        answer.raise_for_status()
        return dict(answer.json())

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._client.post(path, json=body)
        answer.raise_for_status()
        return dict(answer.json())
