"""The pages of the dashboard. A page reads the API's answers, masks them for the user's role, and renders them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from fleet_core.assets import AssetClass
from fleet_server.api.access import App, Search, SignedIn, found, require
from fleet_server.api.reads import assets, calibration, cases, fleet, records
from fleet_server.api.routes.fleet import Level
from fleet_server.api.routes.session import remember_device, set_cookie, sign_in
from fleet_server.dashboard.rendering import render
from fleet_server.sovereignty.data_class import DataClass
from fleet_server.sovereignty.directives import view
from fleet_server.sovereignty.roles import Permission, allowed, cleared
from fleet_server.sovereignty.users import MAX_PASSWORD, User, WrongPassword

router = APIRouter(include_in_schema=False)
PAGE_SIZE = 50
_FleetViewer = Annotated[User, Depends(require(Permission.VIEW_FLEET))]
_CaseViewer = Annotated[User, Depends(require(Permission.VIEW_CASES))]
_Page = Annotated[int, Query(ge=1, le=10_000)]
_Choice = Annotated[str, Query(max_length=64)]


@router.get("/login")
async def login_page(request: Request, next: str = "/") -> Response:  # noqa: A002 # the word browsers know
    return render(request, "login.html", next=_inside(next), error="", login="")


@router.post("/login")
async def login(
    request: Request,
    app: App,
    login: Annotated[str, Form(max_length=64)],
    password: Annotated[str, Form(max_length=MAX_PASSWORD)],
    next: Annotated[str, Form(max_length=500)] = "/",  # noqa: A002
) -> Response:
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "sign in from the login page")
    try:
        entered = await sign_in(app, login.strip(), password, request)
    except WrongPassword as error:
        return render(request, "login.html", status=401, next=_inside(next), error=str(error), login=login)
    except HTTPException as error:
        return render(request, "login.html", status=429, next=_inside(next), error=error.detail, login=login)
    response = RedirectResponse("/account" if entered.answer.must_change_password else _inside(next), 303)
    set_cookie(response, app, entered.answer.token)
    remember_device(response, app, entered)
    return response


@router.get("/account")
async def account(request: Request, user: SignedIn) -> Response:
    return render(request, "account.html", user)


@router.get("/")
async def fleet_page(
    request: Request,
    user: _FleetViewer,
    app: App,
    level: Level | str = "",
    site_id: _Choice = "",
    asset_class: _Choice = "",
    search: Search = None,
    page: _Page = 1,
) -> Response:
    async with app.reader(user) as conn:
        overview = await fleet.overview(conn, app.clock.now(), app.heard_since())
        table = await fleet.assets(
            conn,
            app.heard_since(),
            level=level or None,
            site_id=site_id or None,
            asset_class=asset_class or None,
            search=search,
            search_names=cleared(user.role, DataClass.CUSTOMER),
            limit=PAGE_SIZE,
            offset=(page - 1) * PAGE_SIZE,
        )
        sites = await fleet.sites(conn, limit=500)
        tenants = await fleet.tenants(conn)
    return render(
        request,
        "fleet.html",
        user,
        overview=view(overview, user.role),
        table=view(table, user.role),
        sites=view(sites, user.role).items,
        classes=[kind.value for kind in AssetClass],
        observe_only=[t for t in view(tenants, user.role).items if t.observe_only],
        tenants=view(tenants, user.role).items,
        page=page,
        pages=max(1, -(-table.total // PAGE_SIZE)),
    )


@router.get("/assets/{asset_id}")
async def asset_page(
    request: Request, asset_id: str, user: Annotated[User, Depends(require(Permission.VIEW_VITALS))], app: App
) -> Response:
    async with app.reader(user) as conn:
        asset = view(found(await assets.asset(conn, asset_id, app.heard_since()), "asset"), user.role)
        waveform = None
        for metric in {channel.metric for finding in asset.findings[:1] for channel in finding.channels}:
            seen = await assets.waveform(conn, asset_id, metric, app.clock.now())
            waveform = view(seen, user.role) if seen.samples else waveform
    newest = max(asset.findings, key=lambda finding: finding.detected_at, default=None)
    first = newest.indicator_metric if newest else asset.vitals[0].metric if asset.vitals else ""
    since = {component.slot: component.valid_from for component in asset.components if component.valid_to is None}
    # A forecast for a component that was replaced since then says nothing about the component installed now.
    current = [made for made in asset.prognoses if made.slot not in since or made.made_at >= since[made.slot]]
    return render(request, "asset.html", user, asset=asset, prognoses=current, first_metric=first, waveform=waveform)


@router.get("/cases")
async def cases_page(
    request: Request, user: _CaseViewer, app: App, show: _Choice = "open", page: _Page = 1
) -> Response:
    async with app.reader(user) as conn:
        table = await cases.cases(
            conn,
            open_only={"open": True, "closed": False}.get(show),
            limit=PAGE_SIZE,
            offset=(page - 1) * PAGE_SIZE,
        )
    pages = max(1, -(-table.total // PAGE_SIZE))
    return render(request, "cases.html", user, table=view(table, user.role), show=show, page=page, pages=pages)


@router.get("/cases/{case_id}")
async def case_page(request: Request, case_id: UUID, user: _CaseViewer, app: App) -> Response:
    async with app.reader(user) as conn:
        case = view(found(await cases.case(conn, case_id, user, app.clock.now()), "case"), user.role)
    return render(request, "case.html", user, case=case, may_decide=_may_decide(user))


@router.get("/escalations")
async def escalations_page(request: Request, user: _CaseViewer, app: App) -> Response:
    async with app.reader(user) as conn:
        waiting = await cases.escalations(conn, user, app.clock.now(), open_only=True)
        decided = await cases.escalations(conn, user, app.clock.now(), open_only=False, limit=20)
    return render(
        request,
        "escalations.html",
        user,
        waiting=view(waiting, user.role).items,
        decided=view(decided, user.role).items,
        may_decide=_may_decide(user),
    )


@router.get("/ledger")
async def ledger_page(
    request: Request, user: Annotated[User, Depends(require(Permission.VIEW_LEDGER))], app: App
) -> Response:
    ledger = view(await records.ledger(app, user), user.role)
    return render(request, "ledger.html", user, ledger=ledger)


@router.get("/audit")
async def audit_page(
    request: Request,
    user: Annotated[User, Depends(require(Permission.VIEW_AUDIT))],
    app: App,
    search: Search = None,
    page: _Page = 1,
) -> Response:
    async with app.reader(user) as conn:
        status = await records.audit_status(conn)
        entries = await records.audit_entries(conn, search=search, limit=PAGE_SIZE, offset=(page - 1) * PAGE_SIZE)
    return render(
        request,
        "audit.html",
        user,
        log=view(status, user.role),
        entries=view(entries, user.role),
        page=page,
        pages=max(1, -(-entries.total // PAGE_SIZE)),
    )


@router.get("/library")
async def library_page(
    request: Request, user: Annotated[User, Depends(require(Permission.VIEW_LIBRARY))], app: App
) -> Response:
    async with app.reader(user) as conn:
        library = view(await fleet.library(conn), user.role)
    return render(request, "library.html", user, library=library)


@router.get("/calibration")
async def calibration_page(
    request: Request, user: Annotated[User, Depends(require(Permission.VIEW_LIBRARY))], app: App
) -> Response:
    async with app.reader(user) as conn:
        kept = view(await calibration.calibration(conn, app.clock.now()), user.role)
    return render(request, "calibration.html", user, calibration=kept)


@router.get("/docs")
async def docs_page(request: Request, user: SignedIn) -> Response:
    schema = request.app.openapi()
    operations = [
        (method.upper(), path, operation)
        for path, item in schema["paths"].items()
        for method, operation in item.items()
    ]
    return render(request, "docs.html", user, schema=schema, operations=operations)


def _may_decide(user: User) -> bool:
    return allowed(user.role, Permission.DECIDE_ESCALATION)


def _inside(target: str) -> str:
    """The target when it is a path of this site; any other target leads to the front page."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) else "/"
