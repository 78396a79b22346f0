"""The simulated authorization server: approval page, token endpoint, revocation, and the tokens themselves."""
