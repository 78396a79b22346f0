"""What tokens look like: signed JWTs with the prefix `eyJ`, opaque strings with the prefix `def`."""

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field


def opaque() -> str:
    """A refresh token or code: a long hexadecimal string that begins with `def`."""
    return "def" + secrets.token_hex(160)


@dataclass(frozen=True, slots=True)
class Signer:
    """Makes access tokens; its key is random and lives as long as the sandbox."""

    client_id: str
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def access_token(self, *, issuer: str, subject: str, scope: str, issued_at: float, expires_at: float) -> str:
        """A JWT (HS256) whose times are seconds with a fraction, as RFC 7519 §2 allows and the real service's kin do."""
        claims = {
            "iss": issuer,
            "aud": self.client_id,
            "sub": subject,
            "jti": secrets.token_hex(40),
            "iat": round(issued_at, 6),
            "nbf": round(issued_at, 6),
            "exp": round(expires_at, 6),
            "scopes": scope.split(),
        }
        signed = f"{_part({'typ': 'JWT', 'alg': 'HS256'})}.{_part(claims)}"
        signature = hmac.new(self.key, signed.encode(), hashlib.sha256).digest()
        return f"{signed}.{_encode(signature)}"


def _part(value: dict[str, object]) -> str:
    return _encode(json.dumps(value, separators=(",", ":")).encode())


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def challenge_of(verifier: str, method: str) -> str:
    """The code challenge that belongs to a verifier (RFC 7636 §4.2)."""
    if method == "plain":
        return verifier
    return _encode(hashlib.sha256(verifier.encode()).digest())
