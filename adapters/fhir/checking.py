"""What is wrong with a document of the contract, rule by rule, in French: for editors (``fhir check``) and for tests.

Checks the shape, the rules of ``profiles``, and what only shows in a whole bundle: references, totals, duplicates.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from adapters.fhir.instants import read_instant
from adapters.fhir.profiles import ANY, PROFILES, Origin, Profile, Rule, Slice
from adapters.fhir.resources import DEPTH, UnreadableError, deeper, read


class Fault(NamedTuple):
    """One broken rule.

    Attributes:
        kind: shape, empty, profile, cardinality, value, code, form, slicing, reference, bundle or order.
        path: where, as ``Bundle.entry[3].resource.start``.
        text: what is wrong and what is expected, in French.
        origin: ``profile`` (official profile) or ``guide`` (narrative and test kit).
    """

    kind: str
    path: str
    text: str
    origin: Origin = "profile"


def check(document: Any) -> list[Fault]:
    """Return every broken rule of a resource or a bundle, its entries included."""
    if not isinstance(document, dict) or not isinstance(document.get("resourceType"), str):
        return [Fault("shape", "document", "n'est pas une ressource FHIR (resourceType absent)")]
    if deeper(document):
        return [Fault("shape", "document", f"plus de {DEPTH} niveaux imbriqués")]
    return [*_empty(document, document["resourceType"]), *_resource(document, document["resourceType"])]


def _resource(document: dict[str, Any], where: str, wanted: str | None = None) -> Iterator[Fault]:
    """Yield the faults of a resource; ``wanted`` is the only profile its place allows."""
    try:
        read(document)
    except UnreadableError as wrong:
        yield from (Fault("shape", f"{where}.{path}", text) for path, text in wrong.faults)
        return
    claimed = document.get("meta", {}).get("profile", [])
    if len(claimed) != 1:
        yield Fault("profile", f"{where}.meta.profile", f"{len(claimed)} profil(s) ; il en faut exactement un", "guide")
    name = wanted or (claimed[0] if claimed else None)
    profile = PROFILES.get(name) if isinstance(name, str) else None
    if profile is None:
        yield Fault("profile", f"{where}.meta.profile", f"profil inconnu du contrat : {name}")
        return
    if wanted is not None and claimed != [wanted]:
        yield Fault("profile", f"{where}.meta.profile", f"attendu : {wanted}")
    if profile.type != document["resourceType"]:
        yield Fault("profile", f"{where}.resourceType", f"ce profil est celui d'un {profile.type}")
        return
    empty_bundle = profile.type == "Bundle" and not document.get("entry")
    for rule in profile.rules:
        # the guide's own empty answer has no entry, whatever the profile's minimum says
        if not (empty_bundle and rule.path == "entry"):
            yield from _rule(rule, document, where)
    for part in profile.slices:
        yield from _slice(part, document, where)
    yield from _times(document, where)
    for number, contained in enumerate(_contained(document)):
        yield from _resource(contained, f"{where}.contained[{number}]")
    if profile.type == "Bundle":
        yield from _bundle(document, profile, where)


def _contained(resource: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the contained resources; of a broken resource, whose shape is another fault, those that are any."""
    parts = resource.get("contained")
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


# -- one element -------------------------------------------------------------------------------------------------------


def _values(parent: Any, name: str) -> list[tuple[str, Any]]:
    """Return the occurrences of an element in its parent, with their place."""
    value = parent.get(name) if isinstance(parent, Mapping) else None
    if value is None:
        return []
    if isinstance(value, list):
        return [(f"{name}[{number}]", item) for number, item in enumerate(value)]
    return [(name, value)]


def _parents(document: Any, path: list[str], where: str) -> Iterator[tuple[str, Any]]:
    if not path:
        yield where, document
        return
    for place, value in _values(document, path[0]):
        yield from _parents(value, path[1:], f"{where}.{place}")


def _rule(rule: Rule, document: Any, where: str) -> Iterator[Fault]:
    *above, name = rule.path.split(".")
    for place, parent in _parents(document, above, where):
        found = _values(parent, name)
        if len(found) < rule.least:
            yield Fault("cardinality", f"{place}.{name}", f"absent ; il en faut {_times_text(rule)}", rule.origin)
        elif len(found) > rule.most:
            yield Fault(
                "cardinality", f"{place}.{name}", f"{len(found)} fois ; il en faut {_times_text(rule)}", rule.origin
            )
        for at, value in found:
            yield from _value(rule, value, f"{place}.{at}")


def _times_text(rule: Rule) -> str:
    if rule.most == 0:
        return "aucun"
    return f"{rule.least} à {rule.most}" if rule.most < ANY else f"{rule.least} au moins"


def _value(rule: Rule, value: Any, where: str) -> Iterator[Fault]:
    if rule.pattern is not None and not contains(value, rule.pattern):
        yield Fault("value", where, f"attendu : {rule.pattern}", rule.origin)
    if rule.form is not None and not (isinstance(value, str) and re.fullmatch(rule.form, value, re.ASCII)):
        yield Fault("form", where, f"forme inattendue ; attendu : {rule.form}", rule.origin)
    if rule.codes is not None:
        for system, code in _codings(value):
            if (system, code) not in rule.codes:
                allowed = ", ".join(sorted(code for _, code in rule.codes))
                yield Fault("code", where, f"{system}|{code} n'est pas admis ; attendu : {allowed}", rule.origin)


def _codings(value: Any) -> list[tuple[str, str]]:
    """Return (system, code) of a code, a Coding or a CodeableConcept."""
    if isinstance(value, str):
        return [("", value)]
    if "coding" in value:
        return [found for coding in value["coding"] for found in _codings(coding)]
    return [(value.get("system", ""), value.get("code", ""))]


def contains(value: Any, pattern: Any) -> bool:
    """Tell whether a value has at least what a pattern has (FHIR ``pattern[x]``)."""
    if isinstance(pattern, Mapping):
        return isinstance(value, Mapping) and all(
            name in value and contains(value[name], pattern[name]) for name in pattern
        )
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(contains(item, part) for item in value) for part in pattern)
    return bool(value == pattern)


def _slice(part: Slice, document: Any, where: str) -> Iterator[Fault]:
    *above, name = part.path.split(".")
    for place, parent in _parents(document, above, where):
        mine = [(at, item) for at, item in _values(parent, name) if contains(item, part.when)]
        if not part.least <= len(mine) <= part.most:
            most = "*" if part.most == ANY else part.most
            text = f"tranche « {part.name} » : {len(mine)} fois ; il en faut {part.least} à {most}"
            yield Fault("slicing", f"{place}.{name}", text, part.origin)
        for at, item in mine:
            for rule in part.rules:
                yield from (fault._replace(kind="slicing") for fault in _rule(rule, item, f"{place}.{at}"))


def _times(document: Mapping[str, Any], where: str) -> Iterator[Fault]:
    start, end = document.get("start"), document.get("end")
    if not (isinstance(start, str) and isinstance(end, str)):
        return
    try:
        if read_instant(end) <= read_instant(start):
            yield Fault("order", f"{where}.end", "doit être après start", "guide")
    except ValueError as wrong:
        yield Fault("form", f"{where}.start", str(wrong))


def _empty(node: Any, where: str) -> Iterator[Fault]:
    """Yield what is empty or null: the guide forbids it everywhere."""
    if isinstance(node, dict):
        for name, part in node.items():
            yield from _empty(part, f"{where}.{name}")
    elif isinstance(node, list):
        for number, part in enumerate(node):
            yield from _empty(part, f"{where}[{number}]")
    if node in ("", None, [], {}):
        yield Fault("empty", where, "élément vide ou nul ; ne l'envoyez pas", "guide")


# -- a whole bundle ----------------------------------------------------------------------------------------------------

_FULL_URL: Final = re.compile(r"(https?://\S+/)([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})|urn:(uuid|oid):\S+")


def _bundle(document: Mapping[str, Any], profile: Profile, where: str) -> Iterator[Fault]:
    links = [link for link in document.get("link", ()) if link.get("relation") == "self" and link.get("url")]
    if len(links) != 1:
        yield Fault("bundle", f"{where}.link", f"{len(links)} lien(s) self ; il en faut exactement un", "guide")
    counts: dict[str, int] = {}
    names: set[str] = set()
    for number, entry in enumerate(document.get("entry", ())):
        place = f"{where}.entry[{number}]"
        resource = entry.get("resource")
        if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
            yield Fault("shape", f"{place}.resource", "absente ou sans resourceType")
            continue
        kind = resource["resourceType"]
        counts[kind] = counts.get(kind, 0) + 1
        if kind not in profile.entries:
            yield Fault("bundle", f"{place}.resource", f"{kind} n'a pas sa place dans ce bundle", "guide")
            continue
        yield from _resource(resource, f"{place}.resource", profile.entries[kind][0])
        yield from _full_url(entry.get("fullUrl"), resource, place)
        name = f"{kind}/{resource.get('id')}"
        if name in names:
            yield Fault("bundle", place, f"{name} figure deux fois", "guide")
        names.add(name)
    if document.get("entry"):
        for kind, (_, least) in profile.entries.items():
            if counts.get(kind, 0) < least:
                yield Fault(
                    "cardinality", f"{where}.entry", f"{counts.get(kind, 0)} {kind} ; il en faut {least} au moins"
                )
    total = document.get("total")
    if isinstance(total, int) and total != counts.get("Slot", 0):
        yield Fault("bundle", f"{where}.total", f"{total}, pour {counts.get('Slot', 0)} Slot", "guide")
    yield from _references(document, names, where)
    yield from _one_agenda_one_place(document, where)


def _full_url(url: Any, resource: Mapping[str, Any], place: str) -> Iterator[Fault]:
    match = _FULL_URL.fullmatch(url) if isinstance(url, str) else None
    if match is None:
        yield Fault("bundle", f"{place}.fullUrl", "absent, ou pas une URL absolue", "guide")
    elif match[2] and (match[2], match[3]) != (resource["resourceType"], resource.get("id")):
        yield Fault("bundle", f"{place}.fullUrl", "ne finit pas par le type et l'id de la ressource", "guide")


def _references(document: Mapping[str, Any], names: set[str], where: str) -> Iterator[Fault]:
    for number, entry in enumerate(document.get("entry", ())):
        resource = entry.get("resource") or {}
        contained = {f"#{part.get('id')}" for part in _contained(resource)}
        for path, name in _pointers(resource, f"{where}.entry[{number}].resource"):
            if name not in (contained if name.startswith("#") else names):
                yield Fault("reference", path, f"{name} n'est pas dans le bundle")


def _pointers(node: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        for name, part in node.items():
            if name == "reference" and isinstance(part, str):
                yield f"{where}.reference", part
            elif name != "contained":
                yield from _pointers(part, f"{where}.{name}")
    elif isinstance(node, list):
        for number, part in enumerate(node):
            yield from _pointers(part, f"{where}[{number}]")


def _one_agenda_one_place(document: Mapping[str, Any], where: str) -> Iterator[Fault]:
    """One Schedule ⇔ one PractitionerRole: two agendas of one role hide one another."""
    seen: dict[str, str] = {}
    for number, entry in enumerate(document.get("entry", ())):
        resource = entry.get("resource") or {}
        if resource.get("resourceType") != "Schedule" or not isinstance(resource.get("actor"), list):
            continue
        agenda = str(resource.get("id"))
        for actor in resource["actor"]:
            name = str(actor.get("reference", "")) if isinstance(actor, dict) else ""
            if name.startswith(("PractitionerRole/", "Location/")) and seen.setdefault(name, agenda) != agenda:
                yield Fault("bundle", f"{where}.entry[{number}].resource.actor", f"{name} a deux agendas", "guide")
