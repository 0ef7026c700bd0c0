"""The error tree: each class carries its HTTP status, a stable code and a French title (RFC 9457).

```
SasError
├── InvalidInputError      422  invalid_input        a field is wrong; `errors` names each one and the fix
├── VitalPriorityError     422  vital_priority       P0/P1/R1/R2: orienter AMU/SMUR (law 6)
├── NotAuthenticatedError  401  not_authenticated    no key, unknown, revoked or expired key
├── NotAllowedError        403  not_allowed          the key's scope or binding forbids it
├── NotFoundError          404  not_found            unknown, or not visible to this key
├── ConflictError          409  conflict             the state does not allow it any more
│   ├── HoldEndedError     409  hold_ended           the hold ran out or was released
│   ├── SlotFullError      409  slot_full            no seat left, withdrawn or started
│   ├── CrisisNotAllowedError 409 crisis_not_allowed the territory has no leave to break promises
│   ├── OneStepError       409  one_step             a crisis is left step by step
│   ├── TooLateError       409  too_late             somebody else has accepted, or the request is closed
│   ├── AcceptEndedError   409  accept_ended         the deadline to accept a booking is over
│   ├── LimitReachedError  409  limit_reached        the practice takes no more such patients that day
│   └── IdempotencyError   409  idempotency_reused   same key, another body
├── TooLargeError          413  too_large            body or list over the limit
├── TooManyError           429  too_many_requests    rate limit; `retry_after` seconds
├── UnavailableError       503  unavailable          a store is away; nothing was done
│   └── OverloadedError    503  overloaded           more urgent or older calls go first; `retry_after` seconds
└── FencedError            —    fenced               this matcher lost its lease; it must stop writing
```
"""

from collections.abc import Iterable
from typing import Any, ClassVar


class SasError(Exception):
    """Base of every error this service raises on purpose; never raised itself."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Erreur interne"

    def __init__(self, detail: str = "", **extra: Any) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.extra = extra


class InvalidInputError(SasError):
    """A field of the input is wrong; catch at the edge to show `extra["errors"]`."""

    status = 422
    code = "invalid_input"
    title = "Donnée incorrecte"

    @classmethod
    def of(cls, field: str, message: str) -> "InvalidInputError":
        """Build the error for one field (JSON pointer without the leading slash)."""
        return cls(f"{field} : {message}", errors=[{"field": field, "message": message}])


class VitalPriorityError(SasError):
    """Vital or true emergency: never matched here."""

    status = 422
    code = "vital_priority"
    title = "Urgence vitale ou vraie : orienter AMU/SMUR"


class NotAuthenticatedError(SasError):
    """No valid key came with the call."""

    status = 401
    code = "not_authenticated"
    title = "Clé d'accès absente ou invalide"


class NotAllowedError(SasError):
    """The key is valid but may not do this."""

    status = 403
    code = "not_allowed"
    title = "Action non autorisée pour cette clé"


class NotFoundError(SasError):
    """Nothing by that name that this key may see."""

    status = 404
    code = "not_found"
    title = "Introuvable"


class ConflictError(SasError):
    """The present state does not allow the action."""

    status = 409
    code = "conflict"
    title = "L'état actuel ne le permet pas"


class HoldEndedError(ConflictError):
    """The hold that was to be confirmed or declined is over."""

    code = "hold_ended"
    title = "La réservation provisoire est terminée"


class SlotFullError(ConflictError):
    """The wanted slot has no seat left."""

    code = "slot_full"
    title = "Le créneau n'a plus de place"


class CrisisNotAllowedError(ConflictError):
    """A crisis is chosen or declared where the territory has no leave for one."""

    code = "crisis_not_allowed"
    title = "La crise n'est pas permise dans ce territoire"


class OneStepError(ConflictError):
    """A level is to fall by more than one step at once."""

    code = "one_step"
    title = "Le retour à la normale se fait pas à pas"


class TooLateError(ConflictError):
    """A question was answered after somebody else's yes, or after its request was closed."""

    code = "too_late"
    title = "La réponse vient trop tard"


class AcceptEndedError(ConflictError):
    """A booking was accepted after its deadline: its patient is being given another place."""

    code = "accept_ended"
    title = "Le délai pour accepter est passé"


class LimitReachedError(ConflictError):
    """The practice has set how many patients it takes in a day or half a day, and that is reached."""

    code = "limit_reached"
    title = "La limite fixée par le cabinet est atteinte"


class IdempotencyError(ConflictError):
    """The same Idempotency-Key came with another body."""

    code = "idempotency_reused"
    title = "Clé d'idempotence déjà utilisée avec un autre contenu"


class TooLargeError(SasError):
    """The body or a list in it is over the limit."""

    status = 413
    code = "too_large"
    title = "Envoi trop volumineux"


class TooManyError(SasError):
    """The rate limit of this key is reached."""

    status = 429
    code = "too_many_requests"
    title = "Trop d'appels"


class UnavailableError(SasError):
    """A store does not answer; nothing was done, try again."""

    status = 503
    code = "unavailable"
    title = "Service momentanément indisponible"


class OverloadedError(UnavailableError):
    """More comes than can be decided: others go first; nothing was done, the same call may be sent again."""

    code = "overloaded"
    title = "Service saturé"


class RefusedArrivalError(SasError):
    """A request that came to the matcher before it was written cannot be written; nothing of the claim was.

    ``requests`` names those whose Idempotency-Key came before; empty where it is not known which of them it is.
    """

    code = "refused_arrival"
    title = "Demande non enregistrée"

    def __init__(self, requests: Iterable[str] = ()) -> None:
        super().__init__()
        self.requests = frozenset(requests)


class FencedError(SasError):
    """Another matcher holds the lease now; whoever gets this must stop writing."""

    code = "fenced"
    title = "Bail perdu"
