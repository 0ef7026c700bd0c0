"""Commands that speak to a running service, through the public client only."""

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import orjson

from sas_matcher.cli.files import NumberedSlot
from sas_matcher.cli.french import FailureError, InputError
from sas_matcher.cli.show import event_line, request_lines
from sas_matcher.client import ApiError, ClientError, Event, Gap, Request, Retry, SasClient, UnreachableError

Say = Callable[[str], object]
CHUNK: Final = 2_000
"""Slots in one call, about 1 MB: a tenth of what the service takes, so that a slow line sees it move."""
PATIENCE: Final = Retry(attempts=3)
_LISTED: Final = 6
_WHOLE_CITIES: Final = frozenset({"13055", "69123", "75056"})
"""Marseille, Lyon and Paris: whoever types the postcode of an arrondissement means that."""
_INPUT: Final = frozenset({400, 413, 422})
_STORED: Final = {
    "created": "créés",
    "updated": "modifiés",
    "unchanged": "inchangés",
    "stale": "plus anciens que connus",
}
_OUTCOMES: Final = _STORED | {
    "booked": "réservés (date, lieu et personne ne changent plus)",
    "other_territory": "d'un autre département (à retirer d'abord)",
    "not_yours": "d'un autre cabinet de la même source (identifiant déjà pris)",
}


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn what the client raises into one readable line."""
    try:
        yield
    except UnreachableError as away:
        raise FailureError(
            f"le service ne répond pas à {away.url} ({away.reason}) ; est-il lancé (sas-matcher demo) ? "
            "Sinon donnez --url ou SAS_URL"
        ) from away
    except ApiError as refused:
        text = refused.detail.rstrip(".")
        if refused.status == 401:
            text = f"clé d'accès refusée ({text}) ; vérifiez --key ou SAS_KEY"
        if refused.status >= 500 and refused.request_id:
            text += f" (à citer à l'exploitant : {refused.request_id})"
        raise (InputError if refused.status in _INPUT else FailureError)(text) from refused
    except ClientError as failed:
        raise FailureError(str(failed)) from failed


def client_of(url: str, key: str) -> SasClient:
    """Return a client of a service.

    Raises:
        InputError: the address or the key cannot be one.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"l'adresse « {url} » doit commencer par http:// ou https:// (--url ou SAS_URL)")
    try:
        return SasClient(url, key, retry=PATIENCE)
    except ValueError as wrong:
        raise InputError("la clé d'accès contient un espace ou un accent ; recopiez-la (--key ou SAS_KEY)") from wrong


async def publish(url: str, key: str, slots: Sequence[NumberedSlot], say: Say) -> None:
    """Publish slots in chunks and say what became of them.

    Raises:
        InputError: the service refuses one; names where it stands in the file.
    """
    counts: dict[str, int] = {}
    with readable_errors():
        async with client_of(url, key) as sas:
            for at in range(0, len(slots), CHUNK):
                part = slots[at : at + CHUNK]
                try:
                    outcomes = await sas.publish_slots([slot.body for slot in part])
                except ApiError as refused:
                    raise _located(refused, part, at) from refused
                for word, number in outcomes.counts.items():
                    counts[word] = counts.get(word, 0) + number
    details = ", ".join(f"{number} {_OUTCOMES.get(word, word)}" for word, number in counts.items())
    say(f"{len(slots)} créneaux envoyés : {details or 'rien à faire'}.")


def _located(refused: ApiError, part: Sequence[NumberedSlot], done: int) -> Exception:
    """Say where in the file the slot stands that the service refuses."""
    lines = []
    for error in refused.errors[:10]:
        head, _, rest = error.field.partition(".")
        number, _, field = rest.partition(".")
        if head == "slots" and number.isdigit() and int(number) < len(part):
            lines.append(f"{part[int(number)].where} : {field} : {error.message}")
    if not lines:
        return refused
    before = f"les {done} premiers sont publiés, le reste non" if done else "rien n'a été publié"
    more = f"\n  (et {len(refused.errors) - len(lines)} autres)" if len(refused.errors) > len(lines) else ""
    return InputError("\n  ".join(lines) + f"{more} ; {before}")


async def request(
    url: str,
    key: str,
    wish: Mapping[str, Any],
    commune: str | None,
    say: Say,
    *,
    confirm: bool,
    ask: Callable[[str], bool] | None,
    as_json: bool,
) -> None:
    """Ask for a place and say what came of it; confirm it, or ask whether to.

    Args:
        url: Of the service.
        key: API key.
        wish: Body of the request.
        commune: Name or postcode to look up when the wish has no place.
        say: Takes each line.
        confirm: Confirm at once.
        ask: Puts a yes-or-no question; none without a terminal.
        as_json: Say the document instead of lines.
    """
    with readable_errors():
        async with client_of(url, key) as sas:
            if commune is not None:
                wish = {**wish, "insee": await _insee(sas, commune)}
            if "insee" not in wish and not ("lat" in wish and "lon" in wish):
                raise InputError("indiquez où : --insee, --commune, ou --lat et --lon")
            done = await sas.create_request(wish)
            if done.decision is None:
                done = await _decided(sas, done)
            held = done.status == "held" and done.booking is not None
            if not as_json:
                for line in request_lines(done):
                    say(line)
            if held and ask is not None and not confirm:
                confirm = ask("Confirmer cette place ?")
                if not confirm:
                    await sas.cancel(done.request_id)
                    say("Demande annulée, la place est rendue.")
                    return
            if held and confirm and done.booking is not None:
                done = await sas.confirm(done.request_id, booking_id=done.booking.booking_id)
                say("Confirmée : le cabinet est prévenu.") if not as_json else None
            elif held and not as_json:
                say("Sans confirmation la place sera rendue (--confirm confirme aussitôt).")
            if as_json:
                say(orjson.dumps(done.raw).decode())


async def _insee(sas: SasClient, text: str) -> str:
    """Return the code of the one commune that a name or postcode means.

    Raises:
        InputError: none does, or several do; names them.
    """
    found = await sas.communes(text, limit=50)
    if text.strip().isdigit():
        # the service also finds INSEE codes, which are not what people type here
        found = [commune for commune in found if text.strip() in commune.postcodes]
        found = [commune for commune in found if commune.code not in _WHOLE_CITIES] or found
    else:
        found = [commune for commune in found if _plain(commune.name) == _plain(text)] or found
    if not found:
        raise InputError(f"aucune commune ne correspond à « {text} » ; essayez son code postal, ou --insee")
    if len(found) > 1:
        names = ", ".join(f"{commune.name} ({commune.territory}) --insee {commune.code}" for commune in found[:_LISTED])
        more = f" et {len(found) - _LISTED} autres" if len(found) > _LISTED else ""
        raise InputError(f"plusieurs communes correspondent à « {text} » : {names}{more}")
    return found[0].code


def _plain(name: str) -> str:
    """Return a name without accents, case and hyphens."""
    letters = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    return " ".join(letters.replace("-", " ").replace("'", " ").split())


async def _decided(sas: SasClient, asked: Request) -> Request:
    """Wait for a decision that took longer than usual, for as long as a caller would."""
    async with sas.events() as stream:
        await stream.open()
        now = await sas.request(asked.request_id)
        if now.decision is not None:
            return now
        async for item in stream:
            if isinstance(item, Event) and item.aggregate == asked.request_id and item.request is not None:
                return item.request
    return now


async def watch(url: str, key: str, say: Say, *, count: int | None, as_json: bool) -> None:
    """Say each event; after a gap, that something may be missing and what is open now."""
    with readable_errors():
        async with client_of(url, key) as sas, sas.events() as stream:
            me = await sas.me()
            await stream.open()
            if not as_json:
                say(f"Suivi de « {me.name} » ({me.role}) ; Ctrl-C pour finir.")
            seen = 0
            async for item in stream:
                if isinstance(item, Gap):
                    await _after_gap(sas, item, say, regulator=me.scope == "regulator", as_json=as_json)
                    continue
                say(_json(item) if as_json else event_line(item))
                seen += 1
                if seen == count:
                    return


async def _after_gap(sas: SasClient, gap: Gap, say: Say, *, regulator: bool, as_json: bool) -> None:
    if as_json:
        say(orjson.dumps({"gap": gap.reason, **gap.position._asdict()}).decode())
        return
    say(f"… des événements ont pu manquer ({gap.reason}) ; l'état présent fait foi :")
    if regulator:
        for open_one in await sas.requests(status=("waiting", "held", "lapsed"), limit=200):
            say("  " + next(request_lines(open_one)))


def _json(event: Event) -> str:
    document = {"event": event.name, **event.position._asdict(), "data": event.data}
    return orjson.dumps(document).decode()
