"""What a person at a terminal is told of an attempt that gave no pair."""

from __future__ import annotations

from passoproxy.core.oauth.replies import Dead, Lost, Misconfigured, Retryable, Unsent
from passoproxy.errors import CannotCreate, CommandFailure, ConfigurationError, Fault, PersonNeeded, ServiceUnreachable
from passoproxy.tokens.asking import Failure
from passoproxy.tokens.refreshing import Unrecorded

REMEDY = "check oauth.client_id, its secret, oauth.client_auth and oauth.token_url"
"""What to do where the provider refuses the client, or the request as such."""


def failure_of(outcome: Failure | Unrecorded) -> CommandFailure:
    """`outcome` with the exit code of contract §2."""
    match outcome:
        case Unsent(reason=reason) | Retryable(reason=reason):
            return ServiceUnreachable(f"{reason}; the pair is kept and it is tried again")
        case Lost(reason=reason):
            return ServiceUnreachable(f"the provider's answer was lost: {reason}; see 'passoproxy token status'")
        case Misconfigured(reason=reason):
            return ConfigurationError(Fault("", "oauth", reason, f"{REMEDY}; the pair is kept"))
        case Dead(reason=reason):
            return PersonNeeded(f"{reason}; run 'passoproxy login'")
        case Unrecorded(reason=reason):
            return CannotCreate(f"not refreshed, because the attempt cannot be recorded: {reason}")
