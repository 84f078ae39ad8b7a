"""Waiting for what blocks, on an event loop."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

__all__ = ["wait_for"]

T = TypeVar("T")


async def wait_for(work: Callable[[], T]) -> T:
    """Do what blocks, in a thread."""
    return await asyncio.to_thread(work)
