"""The error tree. A caller's three questions are answered by the class.

ForestallError
|-- Retryable        try again later, unchanged: nothing happened on the other side
|-- OutcomeUnknown   it may or may not have happened: look it up before trying again
`-- Permanent        trying again will not help
    |-- BadInput     what was handed in breaks a rule; quarantine it and go on
    `-- BadConfig    a setting is wrong; the message names it and the mend
"""

from __future__ import annotations


class ForestallError(Exception):
    """Something went wrong in Forestall; never raised itself."""


class Retryable(ForestallError):
    """Not now: the same call may succeed later, and it certainly had no effect yet."""


class OutcomeUnknown(ForestallError):
    """The call may have taken effect; look it up by its idempotency key before a retry."""


class Permanent(ForestallError):
    """The same call will fail again."""


class BadInput(Permanent):
    """Input from outside breaks a stated rule.

    ``reason`` is a short stable code used as a metric label; the message explains.
    """

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(f"{reason}: {message}" if message else reason)
        self.reason = reason


class BadConfig(Permanent):
    """A setting is missing or wrong; the message says which and how to mend it."""
