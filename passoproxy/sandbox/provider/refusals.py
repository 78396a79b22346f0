"""How the token endpoint says no (RFC 6749 §5.2), in the words of the PHP library that the real service resembles."""

from dataclasses import dataclass

_MALFORMED = (
    "The request is missing a required parameter, includes an invalid parameter value, includes a parameter more "
    "than once, or is otherwise malformed."
)


@dataclass(eq=False)
class Refusal(Exception):
    """An error answer of the token or revocation endpoint."""

    status: int
    error: str
    description: str
    hint: str | None = None

    def body(self) -> dict[str, str]:
        """The JSON members: `error`, `error_description`, `hint` where there is one, `message`."""
        members = {"error": self.error, "error_description": self.description}
        if self.hint is not None:
            members["hint"] = self.hint
        return members | {"message": self.description}


def malformed(hint: str) -> Refusal:
    return Refusal(400, "invalid_request", _MALFORMED, hint)


def missing(parameter: str) -> Refusal:
    return malformed(f"Check the `{parameter}` parameter")


def wrong_client() -> Refusal:
    return Refusal(401, "invalid_client", "Client authentication failed")


def unsupported_grant() -> Refusal:
    return Refusal(
        400,
        "unsupported_grant_type",
        "The authorization grant type is not supported by the authorization server.",
        "Check that all required parameters have been provided",
    )


def invalid_code(hint: str) -> Refusal:
    return Refusal(
        400,
        "invalid_grant",
        "The provided authorization grant (e.g., authorization code, resource owner credentials) or refresh token is "
        "invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was "
        "issued to another client.",
        hint,
    )


def invalid_refresh_token(hint: str, *, legacy: bool) -> Refusal:
    """A refresh token that is dead; `legacy` answers as library version 8 did."""
    status, error = (401, "invalid_request") if legacy else (400, "invalid_grant")
    return Refusal(status, error, "The refresh token is invalid.", hint)
