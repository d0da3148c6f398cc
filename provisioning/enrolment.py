"""The enrolment service: a claim and a certificate request in, a certificate out. RFC 7030's names and media types.

    GET  /.well-known/est/cacerts        the authority's certificate (PKCS#7, base64)
    POST /.well-known/est/simpleenroll   PKCS#10 (base64 DER); the claim is the password of HTTP Basic
    GET  /v1/broker                      {"host", "port"}: where the new node connects
    GET  /v1/health                      counters of what was issued and refused

The service offers a part of EST: no re-enrolment by client certificate, no server-side keys. A refusal answers
``{"reason", "message"}``; the reasons are stable. Every request is bounded in size, time and rate before it costs
anything, and no request can make the service fail. Files that cannot be published are an outage, which is logged once;
any other error of the regular publishing ends the service with its reason.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from fleet_core.clock import Clock
from fleet_core.errors import BadInput, ForestallError, Retryable
from fleet_core.service import Outage, end_tasks, every, raise_failure, start
from provisioning.authority import Authority
from provisioning.certificates import MAX_CSR_BYTES
from provisioning.claims import spend_claim
from provisioning.names import check_host, check_port

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 2 * MAX_CSR_BYTES  # base64 takes a third more than DER, and line breaks
BODY_TIMEOUT_S = 10.0
PUBLISH_INTERVAL_S = 30.0
STATUS = {
    "bad_csr": 400,
    "bad_body": 400,
    "no_claim": 401,
    "unknown_claim": 403,
    "claim_used": 403,
    "claim_expired": 403,
    "name_taken": 409,
    "too_long": 413,
    "too_many": 429,
}


@dataclass(frozen=True)
class BrokerAddress:
    """Where enrolled nodes connect; the name must be one the broker's certificate carries."""

    host: str
    port: int


class RateLimiter:
    """One token bucket for every caller. Pure: time is an argument. The least recent callers are forgotten first."""

    def __init__(self, rate_per_s: float = 1.0, burst: int = 20, max_callers: int = 4096) -> None:
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._max_callers = max_callers
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, caller: str, now_s: float) -> bool:
        """Take one token from the bucket of ``caller``; False when the bucket is empty."""
        tokens, at_s = self._buckets.pop(caller, (self._burst, now_s))
        tokens = min(self._burst, tokens + (now_s - at_s) * self._rate_per_s)
        allowed = tokens >= 1.0
        self._buckets[caller] = (tokens - 1.0 if allowed else tokens, now_s)
        if len(self._buckets) > self._max_callers:
            self._buckets.popitem(last=False)
        return allowed


def create_app(
    authority: Authority,
    broker: BrokerAddress,
    publish: Callable[[], object],
    *,
    clock: Clock,
    limiter: RateLimiter | None = None,
    on_failure: Callable[[], object] = lambda: None,
) -> FastAPI:
    """The enrolment service as an ASGI application.

    ``publish`` makes the broker know the identities that were issued. It is called after every enrolment, before the
    device is answered, and every PUBLISH_INTERVAL_S. When it fails the device is answered all the same: its certificate
    is valid, and the next call publishes its rights. ``on_failure`` is called when the regular publishing ended by an
    unforeseen error: the server should then end, and the application raises that error at its end.
    """
    check_host(broker.host, "broker host")
    check_port(broker.port, "broker port")
    limits = limiter or RateLimiter()
    publisher = _Publisher(publish)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        again = every(PUBLISH_INTERVAL_S, partial(run_in_threadpool, publisher.publish), sleep=clock.sleep)
        (publishing,) = start({"publish": again})
        publishing.add_done_callback(lambda task: None if task.cancelled() else on_failure())
        try:
            yield
        finally:
            await end_tasks([publishing])
        raise_failure([publishing])

    app = FastAPI(title="Forestall enrolment", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    @app.exception_handler(BadInput)
    async def refuse(_request: Request, refusal: BadInput) -> JSONResponse:
        log.warning("enrolment refused: %s", refusal)
        headers = {"WWW-Authenticate": 'Basic realm="claim"'} if refusal.reason == "no_claim" else None
        body = {"reason": refusal.reason, "message": str(refusal)}
        return JSONResponse(body, STATUS.get(refusal.reason, 400), headers)

    @app.exception_handler(Retryable)
    async def later(_request: Request, error: Retryable) -> JSONResponse:
        return JSONResponse({"reason": "busy", "message": str(error)}, 503, {"Retry-After": "5"})

    @app.get("/.well-known/est/cacerts")
    def cacerts() -> Response:
        return _pkcs7(pkcs7.serialize_certificates([authority.ca], Encoding.DER))

    @app.post("/.well-known/est/simpleenroll")
    async def simpleenroll(request: Request) -> Response:
        caller = request.client.host if request.client else ""
        if not limits.allow(caller, clock.monotonic_s()):
            raise BadInput("too_many", "too many requests from this address: wait a minute")
        secret = _claim_in(request.headers.get("Authorization", ""))
        request_der = _decode(await _read_body(request))
        enrolment = await run_in_threadpool(spend_claim, authority, secret, request_der)
        log.info("%s %s", "repeated the reply to" if enrolment.repeated else "enrolled", enrolment.node.node_id)
        await run_in_threadpool(publisher.publish)
        return _pkcs7(pkcs7.serialize_certificates([enrolment.certificate], Encoding.DER))

    @app.get("/v1/broker")
    def broker_address() -> dict[str, str | int]:
        return {"host": broker.host, "port": broker.port}

    @app.get("/v1/health")
    def health() -> dict[str, object]:
        return {"ok": publisher.ok, "counters": authority.registry.counters()}

    return app


class _Publisher:
    """Calls ``publish`` and survives the outages that are expected: files that cannot be written, a busy registry."""

    def __init__(self, publish: Callable[[], object]) -> None:
        self._publish = publish
        self._outage = Outage(
            log,
            "the broker's files cannot be published, new nodes have no rights yet",
            "the broker's files are published again",
            errors=(OSError, ForestallError),
            over_level=logging.INFO,
        )

    @property
    def ok(self) -> bool:
        return not self._outage.active

    def publish(self) -> None:
        try:
            self._publish()
        except self._outage.errors as error:
            self._outage.failed(error)
        else:
            self._outage.succeeded()


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise BadInput("too_long", f"a request may be {MAX_BODY_BYTES} bytes long")
    except TimeoutError:
        raise BadInput("bad_body", f"the request took longer than {BODY_TIMEOUT_S:g} s to arrive") from None
    return bytes(body)


def _decode(body: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        raise BadInput("bad_body", "expected a PKCS#10 request, DER in base64") from None


def _claim_in(header: str) -> str:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() == "basic":
        try:
            _, separator, secret = base64.b64decode(encoded, validate=True).decode("ascii").partition(":")
        except ValueError:
            separator = secret = ""
        if separator and secret:
            return secret
    raise BadInput("no_claim", "send the claim as the password of HTTP Basic")


def _pkcs7(der: bytes) -> Response:
    return Response(
        base64.encodebytes(der),
        media_type="application/pkcs7-mime; smime-type=certs-only",
        headers={"Content-Transfer-Encoding": "base64"},
    )
