"""Files of slots: JSON or one JSON document a line, checked before anything is sent."""

import json
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

from sas_matcher.api.inputs.reading import parse
from sas_matcher.api.inputs.schemas import SlotIn
from sas_matcher.cli.french import InputError
from sas_matcher.domain.errors import InvalidInputError

_SHOWN: Final = 10


class NumberedSlot(NamedTuple):
    """A slot and where it stands in its file, such as « ligne 3 »."""

    where: str
    body: dict[str, Any]


def read_slots(name: str) -> list[NumberedSlot]:
    """Read a file of slots, or standard input for "-".

    Raises:
        InputError: the file is missing or unreadable, or a slot is wrong; names line or slot, field and fix.
    """
    try:
        # plain bytes: an agenda's export may begin with a byte-order mark
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"le fichier {name} n'existe pas") from None
    except IsADirectoryError:
        raise InputError(f"{name} est un dossier ; donnez un fichier .json ou .ndjson") from None
    except UnicodeDecodeError as wrong:
        raise InputError(f"{name} n'est pas en UTF-8 (octet {wrong.start}) ; enregistrez-le en UTF-8") from wrong
    slots = _lines(text) if _is_ndjson(name, text) else _document(text)
    if not slots:
        raise InputError(f"{name} ne contient aucun créneau")
    _check(slots)
    return slots


def _is_ndjson(name: str, text: str) -> bool:
    if name.endswith((".ndjson", ".jsonl")):
        return True
    if name.endswith(".json"):
        return False
    first = next((line for line in text.splitlines() if line.strip()), "")
    # a whole document on the first line, and more lines after it
    try:
        return isinstance(json.loads(first), dict) and "slots" not in json.loads(first)
    except json.JSONDecodeError:
        return False


def _lines(text: str) -> list[NumberedSlot]:
    slots = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            slots.append(_object(f"ligne {number}", _loads(line, number)))
    return slots


def _document(text: str) -> list[NumberedSlot]:
    document = _loads(text, None)
    items = document.get("slots") if isinstance(document, dict) else document
    if not isinstance(items, list):
        raise InputError('une liste de créneaux est attendue : [{…}, …] ou {"slots": [{…}, …]}')
    return [_object(f"créneau {number}", item) for number, item in enumerate(items, 1)]


def _loads(text: str, line: int | None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as wrong:
        at = wrong.lineno if line is None else line
        raise InputError(f"ligne {at}, colonne {wrong.colno} : JSON incorrect ({wrong.msg})") from wrong


def _object(where: str, item: Any) -> NumberedSlot:
    if not isinstance(item, dict):
        raise InputError(f"{where} : un objet JSON est attendu")
    return NumberedSlot(where, item)


def _check(slots: list[NumberedSlot]) -> None:
    wrong: list[str] = []
    for slot in slots:
        try:
            parse(SlotIn, json.dumps(slot.body))
        except InvalidInputError as invalid:
            wrong += [f"{slot.where} : {error['field']} : {error['message']}" for error in invalid.extra["errors"]]
    if wrong:
        more = f"\n  (et {len(wrong) - _SHOWN} autres)" if len(wrong) > _SHOWN else ""
        raise InputError("\n  ".join(wrong[:_SHOWN]) + more + " ; rien n'a été publié")
