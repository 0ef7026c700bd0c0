"""What the parts of the client have in common: how a call is made."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any


class Calls(ABC):
    """Base of the parts of ``SasClient``, each of which has the calls about one matter."""

    @abstractmethod
    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: object = None,
        idempotency_key: str | None = None,
        repeatable: bool = False,
    ) -> Any:
        """Make any call."""

    @abstractmethod
    async def _act(
        self, path: str, body: Mapping[str, Any], idempotency_key: str | None, *, method: str = "POST"
    ) -> Any: ...
