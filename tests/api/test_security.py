"""Who may do what: every route, every scope, rates, headers; and what must never be written down anywhere."""

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, Final

import pytest
from starlette.routing import BaseRoute, WebSocketRoute

from sas_matcher.bootstrap.api import api
from sas_matcher.config import Settings
from sas_matcher.console.site import PageRoute
from sas_matcher.domain.vocabulary import SCOPE_LABELS, Scope
from tests.api.conftest import Scene, settings_for
from tests.api.running import Caller, Running, run_service
from tests.conftest import Servers

OPEN: Final = {"/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/public/figures"}
UUID: Final = "00000000-0000-7000-8000-000000000000"
REGULATOR: Final = frozenset({Scope.REGULATOR})
PRACTICE: Final = frozenset({Scope.PRACTICE})
KEEPERS: Final = frozenset({Scope.PRACTICE, Scope.COORDINATOR})
"""Of agendas: a gestionnaire runs those of its structures."""
STEERING: Final = frozenset({Scope.COORDINATOR, Scope.ADMIN})
STEERERS: Final = frozenset({Scope.COORDINATOR, Scope.ADMIN})
EVERYONE: Final = frozenset(Scope)
SCOPES: Final[dict[tuple[str, str], frozenset[Scope]]] = {
    ("POST", "/v1/requests"): REGULATOR,
    ("GET", "/v1/requests"): REGULATOR,
    ("GET", "/v1/requests/{request_id}"): REGULATOR,
    ("POST", "/v1/requests/{request_id}/confirm"): REGULATOR,
    ("POST", "/v1/requests/{request_id}/decline"): REGULATOR,
    ("POST", "/v1/requests/{request_id}/cancel"): REGULATOR,
    ("POST", "/v1/requests/{request_id}/resume"): REGULATOR,
    ("POST", "/v1/requests/{request_id}/hand"): REGULATOR,
    ("GET", "/v1/colleagues"): REGULATOR,
    ("POST", "/v1/requests/{request_id}/take"): REGULATOR,
    ("GET", "/v1/offers"): frozenset({Scope.REGULATOR, Scope.COORDINATOR}),
    ("POST", "/v1/slots"): PRACTICE,
    ("GET", "/v1/slots"): PRACTICE,
    ("POST", "/v1/slots/withdraw"): PRACTICE,
    ("GET", "/v1/share-rules"): PRACTICE,
    ("GET", "/v1/share-rules/{name}"): PRACTICE,
    ("PUT", "/v1/share-rules/{name}"): PRACTICE,
    ("DELETE", "/v1/share-rules/{name}"): PRACTICE,
    ("GET", "/v1/exposures"): PRACTICE,
    ("GET", "/v1/statement"): PRACTICE | frozenset({Scope.COORDINATOR}),
    ("GET", "/v1/limits"): PRACTICE,
    ("GET", "/v1/limits/{name}"): PRACTICE,
    ("PUT", "/v1/limits/{name}"): PRACTICE,
    ("DELETE", "/v1/limits/{name}"): PRACTICE,
    ("GET", "/v1/agendas"): KEEPERS,
    ("POST", "/v1/agendas/stop"): KEEPERS,
    ("POST", "/v1/agendas/go-on"): KEEPERS,
    ("GET", "/v1/agendas/{name}"): KEEPERS,
    ("PUT", "/v1/agendas/{name}"): KEEPERS,
    ("DELETE", "/v1/agendas/{name}"): KEEPERS,
    ("POST", "/v1/agendas/{name}/preview"): KEEPERS,
    ("POST", "/v1/agendas/{name}/csv"): KEEPERS,
    ("POST", "/v1/agendas/{name}/places"): KEEPERS,
    ("DELETE", "/v1/agendas/{name}/places/{places_id}"): KEEPERS,
    ("GET", "/v1/overflow"): PRACTICE,
    ("GET", "/v1/overflow/{name}"): PRACTICE,
    ("PUT", "/v1/overflow/{name}"): PRACTICE,
    ("DELETE", "/v1/overflow/{name}"): PRACTICE,
    ("GET", "/v1/questions"): PRACTICE,
    ("GET", "/v1/questions/{question_id}"): PRACTICE,
    ("POST", "/v1/questions/{question_id}/accept"): PRACTICE,
    ("POST", "/v1/questions/{question_id}/refuse"): PRACTICE,
    ("GET", "/v1/requests/{request_id}/asking"): REGULATOR,
    ("GET", "/v1/territories/{code}/ladder"): EVERYONE,
    ("PUT", "/v1/territories/{code}/ladder"): frozenset({Scope.COORDINATOR, Scope.ADMIN}),
    ("GET", "/v1/territories/{code}/ladder/log"): EVERYONE,
    ("GET", "/v1/crisis"): EVERYONE,
    ("POST", "/v1/crisis"): STEERERS,
    ("GET", "/v1/crisis/log"): EVERYONE,
    ("GET", "/v1/crisis/proposals"): STEERERS,
    ("POST", "/v1/crisis/proposals/{proposal_id}/accept"): STEERERS,
    ("POST", "/v1/crisis/proposals/{proposal_id}/refuse"): STEERERS,
    ("GET", "/v1/crisis/calls"): STEERERS | PRACTICE,
    ("POST", "/v1/crisis/calls/{call_id}/answer"): PRACTICE,
    ("GET", "/v1/crisis/review"): STEERERS,
    ("GET", "/v1/territories/{code}/crisis"): STEERERS | REGULATOR,
    ("GET", "/v1/territories/{code}/crisis/plan"): STEERERS | REGULATOR,
    ("PUT", "/v1/territories/{code}/crisis/plan"): STEERERS,
    ("GET", "/v1/territories/{code}/crisis/plan/log"): STEERERS | REGULATOR,
    ("POST", "/v1/territories/{code}/crisis/calls"): STEERERS,
    ("GET", "/v1/bookings"): PRACTICE,
    ("GET", "/v1/bookings/{booking_id}"): PRACTICE,
    ("POST", "/v1/bookings/{booking_id}/refuse"): PRACTICE,
    ("POST", "/v1/bookings/{booking_id}/outcome"): PRACTICE,
    ("POST", "/v1/bookings/{booking_id}/accept"): PRACTICE,
    ("POST", "/v1/bookings/{booking_id}/cancel"): PRACTICE,
    ("POST", "/v1/bookings/{booking_id}/move"): PRACTICE,
    ("POST", "/v1/slots/{slot_id}/arrived"): PRACTICE,
    ("GET", "/v1/subscriptions"): KEEPERS,
    ("GET", "/v1/subscriptions/{name}"): KEEPERS,
    ("PUT", "/v1/subscriptions/{name}"): KEEPERS,
    ("DELETE", "/v1/subscriptions/{name}"): KEEPERS,
    ("POST", "/v1/subscriptions/{name}/rotate"): KEEPERS,
    ("POST", "/v1/subscriptions/{name}/test"): KEEPERS,
    ("POST", "/v1/subscriptions/{name}/confirm"): KEEPERS,
    ("GET", "/v1/deliveries"): KEEPERS,
    ("GET", "/v1/me"): EVERYONE,
    ("GET", "/v1/communes"): EVERYONE,
    ("GET", "/v1/vocabulary"): EVERYONE,
    ("POST", "/v1/ws-tickets"): EVERYONE,
    ("GET", "/v1/overview"): frozenset({Scope.COORDINATOR, Scope.ADMIN}),
    ("GET", "/v1/figures/now"): STEERING,
    ("GET", "/v1/figures/totals"): STEERING,
    ("GET", "/v1/figures/{table}"): STEERING,
    ("GET", "/v1/studies"): STEERING,
    ("GET", "/v1/studies/{study_id}"): STEERING,
    ("GET", "/v1/territories/{code}/settings"): EVERYONE,
    ("PATCH", "/v1/territories/{code}/settings"): frozenset({Scope.COORDINATOR, Scope.ADMIN}),
    ("GET", "/v1/territories/{code}/settings/log"): EVERYONE,
    ("GET", "/v1/territories/{code}/mt"): frozenset({Scope.COORDINATOR, Scope.ADMIN}),
    ("GET", "/v1/ingest/poison"): frozenset({Scope.ADMIN}),
    ("GET", "/v1/national/appointments"): frozenset({Scope.ADMIN}),
    ("GET", "/v1/editors"): frozenset({Scope.ADMIN, Scope.COORDINATOR, Scope.REGULATOR}),
}
"""What each scope may do. A route that is not listed here fails the test: decide, then add it."""


def walk(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str]]:
    """Yield (method, path) of every HTTP route of an app, those of included routers too."""
    for route in routes:
        inner = getattr(getattr(route, "original_router", None), "routes", None) or getattr(route, "routes", None)
        if inner is not None:
            yield from walk(inner)
        # tests/api/test_accounts.py walks through the pages
        elif not isinstance(route, WebSocketRoute | PageRoute):
            methods = getattr(route, "methods", None)
            # a mount or whatever comes has no methods: it counts as a GET of its path
            for method in sorted(set(methods or {"GET"}) - {"HEAD"}):
                yield method, str(getattr(route, "path", route))


_ALL: Final = sorted(set(walk(api(Settings()).routes)))
# browsers come to /sas/ to sign in: tests/api/test_fhir_booking.py says what they get
ROUTES: Final = [route for route in _ALL if not route[1].startswith(("/fhir", "/sas/", "/static/"))]
FHIR_ROUTES: Final = [path for _, path in _ALL if path.startswith("/fhir")]


def path_of(template: str) -> str:
    """Return a path that fits a route."""
    return re.sub(r"\{code\}", "69", re.sub(r"\{\w+_id\}", UUID, template))


@pytest.mark.parametrize(("method", "template"), ROUTES)
async def test_every_route_refuses_without_a_key(service: Running, method: str, template: str) -> None:
    if template in OPEN:
        return
    nobody = Caller(service, "", "sas_000000000000_" + "A" * 43)
    service.callers.append(nobody)
    for headers in ({}, {"Authorization": ""}, {"Authorization": "Bearer x"}):
        nobody.http.headers.pop("Authorization", None)
        answer = await nobody.http.request(method, path_of(template), headers=headers, content=b"{}")
        assert answer.status_code == 401, (method, template)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "not_authenticated"
    forged = await nobody.http.request(
        method, path_of(template), headers={"Authorization": f"Bearer {nobody.token}"}, content=b"{}"
    )
    assert forged.status_code == 401


@pytest.mark.parametrize("template", FHIR_ROUTES)
async def test_every_fhir_address_refuses_without_a_key_or_certificate(service: Running, template: str) -> None:
    nobody = Caller(service, "", "")
    service.callers.append(nobody)
    nobody.http.headers.pop("Authorization", None)
    path = re.sub(r"\{[\w:]+\}", UUID, template)
    certified = {"X-Client-Verify": "SUCCESS", "X-Client-Subject": "CN=sas.example,OU=ans"}
    for headers in ({}, {"Authorization": ""}, {"Authorization": f"Bearer sas_000000000000_{'A' * 43}"}, certified):
        for method in ("GET", "POST", "PUT", "DELETE"):
            answer = await nobody.http.request(method, path, headers=headers, content=b"{}")
            assert answer.status_code == 401, (method, template, headers)
            assert answer.headers["content-type"] == "application/fhir+json"
            assert answer.json()["resourceType"] == "OperationOutcome"
            assert answer.json()["issue"][0]["code"] == "login"


async def test_only_the_scope_fhir_opens_fhir(service: Running) -> None:
    others = [await service.regulator(), await service.practice(), await service.key("admin")]
    for caller in others:
        answer = await caller.get("/fhir/metadata")
        assert (answer.status_code, answer.json()["issue"][0]["code"]) == (403, "forbidden")
    assert (await (await service.key("fhir")).get("/fhir/metadata")).status_code == 200


def test_the_walk_sees_every_documented_route() -> None:
    app = api(Settings())
    documented = {
        (method.upper(), path) for path, operations in app.openapi()["paths"].items() for method in operations
    }
    assert documented <= set(ROUTES)
    assert {path for _, path in set(ROUTES) - documented} <= OPEN, "only the open ones are left out of the document"
    assert {route for route in ROUTES if route[1] not in OPEN} == set(SCOPES)
    for path, operations in app.openapi()["paths"].items():
        for operation in operations.values():
            if path not in OPEN:
                assert operation["security"] == [{"key": []}]
                assert "401" in operation["responses"]


async def test_only_what_is_open_is_open(service: Running) -> None:
    nobody = Caller(service, "", "")
    service.callers.append(nobody)
    nobody.http.headers.pop("Authorization", None)
    for path in sorted(OPEN):
        assert (await nobody.http.get(path)).status_code == 200, path
    for path in ("/docs", "/redoc", "/v1", "/v1/", "/admin", "/.env", "/static/../sas_matcher/config.py"):
        assert (await nobody.http.get(path)).status_code == 404, path


async def test_the_scopes_of_every_route(service: Running) -> None:
    callers = {
        Scope.REGULATOR: await service.regulator(),
        # bound to the territory of the paths: those that all its keys may read are read
        Scope.PRACTICE: await service.key("manager", territories=("69",), professionals=("*",)),
        Scope.COORDINATOR: await service.key("ars", territories=("*",)),
        Scope.ADMIN: await service.key("admin"),
        Scope.FHIR: await service.key("fhir", territories=("69",)),
    }
    for (method, template), allowed in SCOPES.items():
        for scope, caller in callers.items():
            # an empty body is wrong almost everywhere: what matters is who gets as far as being told so
            answer = await caller.http.request(method, path_of(template), content=b"{}")
            if scope in allowed:
                assert answer.status_code not in (401, 403, 500), (method, template, scope, answer.text)
            else:
                assert answer.status_code == 403, (method, template, scope, answer.text)
                assert answer.json()["code"] == "not_allowed" and SCOPE_LABELS[scope] in answer.json()["detail"]


async def test_the_roles_of_each_scope(service: Running) -> None:
    for role, scope in (
        *((role, "regulator") for role in ("regulator", "osnp", "arm", "ioa")),
        *((role, "coordinator") for role in ("cpts", "ars", "gestionnaire")),
    ):
        caller = await service.key(role, territories=("69",))
        me = (await caller.get("/v1/me")).json()
        assert (me["role"], me["scope"], me["territories"]) == (role, scope, ["69"])
        assert "secret" not in str(me).lower() and caller.token not in str(me)


async def test_a_key_that_calls_too_fast_waits(servers: Servers, service: Running) -> None:
    """Against a second worker with a low rate, on the same stores."""
    settings = settings_for(service.settings.database_url, service.settings.redis_url, rate=0.05, burst=5.0)
    async with run_service(settings, with_core=False) as slow:
        caller, other = await slow.regulator(), await slow.regulator()
        answers = [await caller.get("/v1/me") for _ in range(8)]
        statuses = [answer.status_code for answer in answers]
        assert statuses[:5] == [200] * 5 and 429 in statuses[5:]
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["code"] == "too_many_requests"
        assert 1 <= int(refused.headers["retry-after"]) <= 20  # one call in 20 s: a slow machine gets no second one
        assert (await other.get("/v1/me")).status_code == 200, "each key has a rate of its own"
        written = await caller.post("/v1/requests", {"insee": "30189", "profession": "MG", "delay": "4H"})
        assert written.status_code == 429
        slow.clock.ahead += timedelta(seconds=int(refused.headers["retry-after"]))
        assert (await caller.get("/v1/me")).status_code == 200


async def test_headers_on_every_kind_of_answer(scene: Scene) -> None:
    host = scene.regulator
    answers = [
        await host.get("/v1/me"),
        await host.post("/v1/ws-tickets"),
        await host.get("/v1/requests/nope"),
        await host.get("/nowhere"),
        await host.http.delete("/v1/me"),
        await host.http.get("/v1/me", headers={"Authorization": "x"}),
        await host.post("/v1/slots", {}),
        await host.get("/metrics"),
    ]
    assert {a.status_code for a in answers} == {200, 201, 422, 404, 405, 401, 403}
    for answer in answers:
        headers = answer.headers
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert headers["permissions-policy"] == "geolocation=(), camera=(), microphone=()"
        assert re.fullmatch(r"[0-9a-f-]{36}", headers["x-request-id"])
        assert "server" not in headers and "access-control-allow-origin" not in headers


async def test_only_the_hash_of_a_key_is_stored(scene: Scene, service: Running) -> None:
    secret = scene.regulator.token.split("_", 2)[2]
    (row,) = await service.rows("select k::text as text from api_key k where id = $1", scene.regulator.key_id)
    assert secret not in row["text"] and secret.encode().hex() not in row["text"]


async def test_metrics_have_routes_for_labels_never_paths(scene: Scene) -> None:
    await scene.regulator.get(f"/v1/requests/{UUID}")
    await scene.regulator.get("/v1/nowhere/dupont")
    text = (await scene.regulator.get("/metrics")).text
    assert 'route="/v1/requests/{request_id}"' in text
    assert UUID not in text and "dupont" not in text


async def test_coordinates_are_kept_to_three_decimals(scene: Scene, service: Running) -> None:
    exact: dict[str, Any] = {"lat": scene.spot.lat + 0.001234567, "lon": scene.spot.lon + 0.001234567}
    document = await scene.regulator.ask({**exact, "profession": "MG", "delay": "4H"})
    assert (document["lat"], document["lon"]) == (round(exact["lat"], 3), round(exact["lon"], 3))
    (row,) = await service.rows("select lat, lon from request where id = $1", document["request_id"])
    assert (row["lat"], row["lon"]) == (document["lat"], document["lon"])
    digits = f"{exact['lat']:.6f}"
    for table in ("request", "booking", "outbox", "idempotency"):
        found = await service.rows(f"select 1 from {table} t where t::text like '%' || $1 || '%'", digits)
        assert not found, table
    assert digits.encode() not in await everything_in(service.stores.bus.redis)


async def everything_in(redis: Any) -> bytes:
    """Return all keys and values of a Redis, one after the other."""
    parts: list[bytes] = []
    async for key in redis.scan_iter(count=1000):
        parts.append(key)
        kind = (await redis.type(key)).decode()
        if kind == "string":
            parts.append(await redis.get(key))
        elif kind == "hash":
            parts += [part for pair in (await redis.hgetall(key)).items() for part in pair]
        elif kind == "zset":
            parts += await redis.zrange(key, 0, -1)
        elif kind == "stream":
            for _, fields in await redis.xrange(key):
                parts += [part for pair in fields.items() for part in pair]
        elif kind != "none":  # gone since it was counted
            raise AssertionError(f"a kind of key that this test cannot read: {kind}")
    return b"\n".join(parts)
