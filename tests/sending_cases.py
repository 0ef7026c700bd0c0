"""A sender's work as a test wants it: what is due now, to the end."""

import asyncio
from typing import TypeVar

from sas_matcher.services.sending import AT_ONCE, Sendable, Sender

M = TypeVar("M", bound=Sendable)


async def send_due(sender: Sender[M]) -> int:
    """Send what is due now, at most ``AT_ONCE``; returns how many were taken in hand."""
    messages = await sender.take(AT_ONCE)
    await asyncio.gather(*map(sender.see_through, messages))
    return len(messages)
