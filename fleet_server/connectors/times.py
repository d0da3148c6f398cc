"""The time that connectors, plans and requests hold."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta

Instant = Annotated[datetime, Meta(tz=True)]
"""A time that names its offset from UTC; reading one that does not raises (``resolution/stored.py``)."""
