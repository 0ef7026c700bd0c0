"""Who may speak FHIR with us: an API key of role ``fhir``, or a client certificate that our reverse proxy has checked.

TLS ends at the proxy (``deploy/nginx``), which verifies chain, dates and revocation, drops whatever such headers came
in and sets its own. They are believed only when the connection itself comes from the configured proxy; the subject must
be on the allow-list, by common name and organizational unit both.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

from sas_matcher.domain.errors import NotAllowedError, NotAuthenticatedError

VERIFY_HEADER: Final = "x-client-verify"  # nginx: $ssl_client_verify
SUBJECT_HEADER: Final = "x-client-subject"  # nginx: $ssl_client_s_dn, RFC 2253
_ATTRIBUTE = re.compile(r"\s*([A-Za-z0-9.]+)\s*=\s*((?:\\.|[^,+\\])*)(?:[,+]|$)", re.DOTALL)
_ESCAPE = re.compile(r"\\([0-9A-Fa-f]{2}|.)", re.DOTALL)


class AllowedName(NamedTuple):
    """A client on the allow-list."""

    common_name: str
    unit: str


def allowed_names(texts: Sequence[str]) -> frozenset[AllowedName]:
    """Read an allow-list, ``CN|OU`` each.

    Raises:
        ValueError: an entry lacks one of the two.
    """
    names = set()
    for text in texts:
        common_name, _, unit = (part.strip() for part in text.partition("|"))
        if not common_name or not unit:
            raise ValueError(f"« {text} » : attendu CN|OU, les deux sont vérifiés")
        names.add(AllowedName(common_name, unit))
    return frozenset(names)


def subject_of(text: str) -> dict[str, list[str]]:
    """Split a distinguished name of RFC 2253 into its attributes; empty when it is none."""
    found: dict[str, list[str]] = {}
    at = 0
    while at < len(text):
        match = _ATTRIBUTE.match(text, at)
        if match is None:
            return {}
        raw = bytearray()
        rest = match[2].strip()
        for part in re.split(r"(\\[0-9A-Fa-f]{2}|\\.)", rest):
            escape = _ESCAPE.fullmatch(part)
            # "\C3\A9" are bytes of UTF-8, "\," is the comma itself
            raw += (
                bytes.fromhex(escape[1]) if escape and len(escape[1]) == 2 else (escape[1] if escape else part).encode()
            )
        found.setdefault(match[1].upper(), []).append(raw.decode(errors="replace"))
        at = match.end()
    return found


class Access:
    """The door of ``/fhir``."""

    def __init__(
        self,
        by_key: Callable[[str], Awaitable[str]],
        spend: Callable[[str], None],
        proxies: Sequence[str],
        allowed: frozenset[AllowedName],
    ) -> None:
        """Take what is needed to judge.

        Args:
            by_key: checks an Authorization header and the scope of its key; returns the key's id.
            spend: counts a call of a certificate's holder; raises TooManyError.
            proxies: addresses that the reverse proxy connects from.
            allowed: subjects that may come through it.
        """
        self._by_key = by_key
        self._spend = spend
        self._proxies = frozenset(proxies)
        self._allowed = allowed

    async def admit(self, peer: str | None, headers: Mapping[str, str]) -> str:
        """Return the name of who calls.

        Raises:
            NotAuthenticatedError: neither a key nor a certificate that holds.
            NotAllowedError: the certificate's subject, or the key's scope, is not for this.
            TooManyError: over the rate.
        """
        if "authorization" in headers:
            return await self._by_key(headers["authorization"])
        if peer in self._proxies and VERIFY_HEADER in headers:
            return self._by_certificate(headers[VERIFY_HEADER], headers.get(SUBJECT_HEADER, ""))
        raise NotAuthenticatedError("Certificat client ou en-tête Authorization: Bearer sas_… attendu.")

    def _by_certificate(self, verdict: str, subject: str) -> str:
        if verdict != "SUCCESS":
            raise NotAuthenticatedError("Certificat client absent, expiré, révoqué ou d'une autorité inconnue.")
        attributes = subject_of(subject)
        names = attributes.get("CN", [])
        allowed = {AllowedName(name, unit) for name in names for unit in attributes.get("OU", [])} & self._allowed
        # several common names could mean one client here and another elsewhere
        if len(names) != 1 or not allowed:
            raise NotAllowedError("Ce certificat (CN, OU) n'est pas sur la liste des clients autorisés.")
        self._spend(f"certificat {names[0]}")
        return names[0]
