"""INT_R02 over HTTP: the sequences of the contract (section 8), each on accounts of its own."""

import asyncio
import itertools
import uuid
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest

from adapters.fhir import names
from adapters.fhir.checking import check
from adapters.fhir.identifiers import coded
from tests.api.running import Caller, Running

_numbers = itertools.count(1)
TYPE_OF: Final = {names.NATIONAL_PERSON: "IDNPS", names.PLATFORM: "INTRN"}


def national() -> tuple[str, str]:
    """Return a new establishment-style identifier."""
    return names.NATIONAL_PERSON, f"3990000001/{next(_numbers):05d}SR"


def technical() -> tuple[str, str]:
    """Return a new identifier as the platform gives them."""
    return names.PLATFORM, str(uuid.uuid4())


def account(*identifiers: tuple[str, str], **changes: Any) -> dict[str, Any]:
    """Return an account as the platform sends it."""
    return {
        "resourceType": "Practitioner",
        "meta": {"source": names.PLATFORM, "profile": [names.REGULATOR]},
        "identifier": [
            {"type": coded(TYPE_OF[system], names.IDENTIFIER_TYPE), "system": system, "value": value}
            for system, value in identifiers
        ],
        "active": True,
        "name": [{"family": "Fictive", "given": ["Régine"]}],
        "telecom": [{"system": "email", "value": f"regine.{next(_numbers)}@sas.example"}],
        **changes,
    }


class Platform:
    """The national platform at our endpoint."""

    def __init__(self, caller: Caller) -> None:
        self.http = caller.http

    async def post(self, body: Any, **headers: str) -> httpx.Response:
        return await self.http.post("/fhir/Practitioner", json=body, headers=headers)

    async def put(self, identifier: tuple[str, str], body: Any, **headers: str) -> httpx.Response:
        query = "|".join(identifier)
        return await self.http.put(f"/fhir/Practitioner?identifier={query}", json=body, headers=headers)

    async def get(self, location: str) -> dict[str, Any]:
        answer = await self.http.get(location)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        assert check(document) == []
        return document


@pytest.fixture
async def platform(service: Running) -> Platform:
    return Platform(await service.key("fhir"))


async def test_an_account_is_created_changed_disabled_and_enabled_again(platform: Platform, service: Running) -> None:
    who = national()
    created = await platform.post(account(who), Accept="application/json+fhir")
    assert created.status_code == 201, created.text
    location = created.headers["location"]
    assert location.startswith(f"{service.url}/fhir/Practitioner/")
    assert (await platform.get(location))["identifier"][0]["value"] == who[1]
    for change in (
        {"name": [{"family": "Autre", "given": ["Régine"]}]},
        {"name": [{"family": "Autre", "given": ["Anne"]}]},
        {"telecom": [{"system": "email", "value": f"anne.{who[1][-5:]}@sas.example"}]},
        {"active": False},
        {"active": True},
    ):
        body = {**account(who), **change}
        changed = await platform.put(who, body)
        assert (changed.status_code, changed.headers["location"]) == (200, location), changed.text
        found = await platform.get(location)
        assert {name: found[name] for name in change} == change
        again = await platform.put(who, body)
        assert (again.status_code, again.headers["location"]) == (200, location)
    assert len(await service.rows("select 1 from regulator_account where national = $1", who[1])) == 1


async def test_the_same_update_again_changes_nothing(platform: Platform, service: Running) -> None:
    who = technical()
    body = account(who)
    assert (await platform.put(who, body)).status_code == 201, "unknown: behaves as a creation"
    assert (await platform.put(who, body)).status_code == 200
    (row,) = await service.rows("select version from regulator_account where technical = $1", who[1])
    assert row["version"] == 1


@pytest.mark.parametrize("attached", ["national", "other technical", "both"])
async def test_an_identifier_is_changed_and_the_update_may_come_twice(platform: Platform, attached: str) -> None:
    old, new_national = technical(), national()
    location = (await platform.post(body := account(old))).headers["location"]
    new = {"national": [new_national], "other technical": [technical()], "both": [old, new_national]}[attached]
    changed = {**body, "identifier": account(*new)["identifier"]}
    for _ in range(2):
        answer = await platform.put(old, changed)
        assert (answer.status_code, answer.headers["location"]) == (200, location), answer.text
    assert {i["value"] for i in (await platform.get(location))["identifier"]} == {value for _, value in new}
    by_new = await platform.http.get("/fhir/Practitioner", params={"identifier": "|".join(new[-1])})
    assert by_new.json()["total"] == 1 and by_new.json()["entry"][0]["fullUrl"] == location


async def test_identifiers_and_addresses_are_unique_among_active_accounts(platform: Platform) -> None:
    who = national()
    first = account(who)
    assert (await platform.post(first)).status_code == 201
    same_id = await platform.post(account(who))
    assert same_id.status_code == 422 and same_id.json()["issue"][0]["code"] == "duplicate"
    assert same_id.json()["issue"][0]["expression"] == ["Practitioner.identifier"]
    assert who[1] not in same_id.text
    same_mail = {**account(national()), "telecom": first["telecom"]}
    refused = await platform.post(same_mail)
    assert (refused.status_code, refused.json()["issue"][0]["expression"]) == (422, ["Practitioner.telecom.value"])
    capitals = [{"system": "email", "value": first["telecom"][0]["value"].upper()}]
    assert (await platform.post({**same_mail, "telecom": capitals})).status_code == 422
    # an update may not take them either
    other = national()
    mine = account(other)
    assert (await platform.post(mine)).status_code == 201
    stolen = await platform.put(other, {**mine, "telecom": first["telecom"]})
    assert stolen.status_code == 422
    taken = await platform.put(other, {**mine, "identifier": first["identifier"]})
    assert taken.status_code == 422
    # a disabled account keeps nothing for itself
    assert (await platform.put(who, {**first, "active": False})).status_code == 200
    assert (await platform.put(other, {**mine, "identifier": first["identifier"]})).status_code == 200
    assert (await platform.post({**same_mail, "identifier": account(national())["identifier"]})).status_code == 201
    # and cannot come back while another holds what was its own
    assert (await platform.put(who, {**first, "identifier": account(national())["identifier"]})).status_code == 422


async def test_the_quirk_of_the_test_kit(platform: Platform) -> None:
    """The id of the account under the wrong system; a national-style value typed as internal."""
    known = technical()
    location = (await platform.post(body := account(known))).headers["location"]
    quirk = {**body, "identifier": account((names.PLATFORM, "3620100057/70326SR"))["identifier"]}
    answer = await platform.put((names.NATIONAL_PERSON, known[1]), quirk)
    assert (answer.status_code, answer.headers["location"]) == (200, location), answer.text
    assert (await platform.put((names.PLATFORM, "3620100057/70326SR"), {**quirk, "active": False})).status_code == 200


async def test_values_with_a_slash_come_raw_and_encoded(platform: Platform) -> None:
    who = national()
    body = account(who)
    assert (await platform.post(body)).status_code == 201
    for address in (f"{who[0]}|{who[1]}", quote("|".join(who), safe="")):
        answer = await platform.http.put(f"/fhir/Practitioner?identifier={address}", json=body)
        assert answer.status_code == 200, answer.text


def wrong() -> list[tuple[str, dict[str, Any]]]:
    """Return what no account may be."""
    good = account(national())
    mistyped = account(national())
    mistyped["identifier"][0]["type"]["coding"][0]["code"] = "INTRN"
    structure = account(national())
    structure["identifier"][0]["system"] = names.NATIONAL_STRUCTURE
    return [
        *(
            (f"no {name}", {k: v for k, v in good.items() if k != name})
            for name in ("identifier", "name", "telecom", "active")
        ),
        ("no identifiers", good | {"identifier": []}),
        ("empty family", good | {"name": [{"family": "", "given": ["Régine"]}]}),
        ("blank family", good | {"name": [{"family": "  ", "given": ["Régine"]}]}),
        ("no family", good | {"name": [{"given": ["Régine"]}]}),
        ("two given names", good | {"name": [{"family": "Fictive", "given": ["A", "B"]}]}),
        ("empty e-mail", good | {"telecom": [{"system": "email", "value": ""}]}),
        ("no e-mail", good | {"telecom": [{"system": "email"}]}),
        ("no address", good | {"telecom": [{"system": "email", "value": "regine"}]}),
        ("an e-mail with NUL", good | {"telecom": [{"system": "email", "value": "regine\0@sas.example"}]}),
        ("a phone", good | {"telecom": [{"system": "phone", "value": "+33199000001"}]}),
        ("active in words", good | {"active": "true"}),
        ("national id typed as internal", mistyped),
        ("a structure's system", structure),
        ("two national ids", account(national(), national())),
        ("another resource", good | {"resourceType": "Patient"}),
        ("no object", []),  # type: ignore[list-item]
    ]


@pytest.mark.parametrize(("what", "body"), wrong(), ids=[what for what, _ in wrong()])
async def test_what_no_account_may_be(platform: Platform, what: str, body: dict[str, Any]) -> None:
    """By creation, by update of an account that exists, and by update that would create one."""
    known = national()
    assert (await platform.post(account(known))).status_code == 201
    for answer in (await platform.post(body), await platform.put(known, body), await platform.put(national(), body)):
        assert answer.status_code == 422, answer.text
        issue = answer.json()["issue"][0]
        assert issue["diagnostics"] and issue["expression"]
        assert "Fictive" not in answer.text and "regine" not in answer.text


async def test_addresses_that_mean_nobody(platform: Platform) -> None:
    good = account(national())
    twice = f"?identifier={names.PLATFORM}|a&identifier={names.PLATFORM}|b"
    empty, nul = f"?identifier={names.NATIONAL_PERSON}|", f"?identifier={names.PLATFORM}|%00"
    for query in ("", "?identifier=", "?identifier=x", "?identifier=urn:oid:1|2", empty, nul, twice):
        answer = await platform.http.put(f"/fhir/Practitioner{query}", json=good)
        assert (answer.status_code, answer.json()["resourceType"]) == (400, "OperationOutcome"), query
    for missing in ("x", str(uuid.uuid4()), "0" * 36):
        assert (await platform.http.get(f"/fhir/Practitioner/{missing}")).status_code == 404
    nobody = await platform.http.get("/fhir/Practitioner", params={"identifier": "|".join(national())})
    assert nobody.json()["total"] == 0 and "entry" not in nobody.json()


async def test_bodies_that_cannot_be_read(platform: Platform) -> None:
    for content in (b"", b"{", b"\xff", b'{"a":' * 60 + b"1" + b"}" * 60):
        answer = await platform.http.post("/fhir/Practitioner", content=content)
        assert (answer.status_code, answer.json()["resourceType"]) == (400, "OperationOutcome"), content[:10]
    kind = {"Content-Type": "application/fhir+xml"}
    xml = await platform.http.post("/fhir/Practitioner", content=b"<a/>", headers=kind)
    assert xml.status_code == 400
    for name in ("application/json", "application/fhir+json; charset=utf-8", "application/json+fhir"):
        answer = await platform.post(account(national()), **{"Content-Type": name})
        assert answer.status_code == 201, name


async def test_one_account_comes_of_many_who_create_it_at_once(platform: Platform, service: Running) -> None:
    who = national()
    answers = await asyncio.gather(*(platform.post(account(who)) for _ in range(8)))
    assert sorted(a.status_code for a in answers) == [201] + [422] * 7
    body = account(other := national())
    updates = await asyncio.gather(*(platform.put(other, body) for _ in range(8)))
    assert sorted(a.status_code for a in updates) == [200] * 7 + [201]
    assert len({a.headers["location"] for a in updates}) == 1
