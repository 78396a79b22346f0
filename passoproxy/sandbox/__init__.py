"""The simulated provider and origin: a stand-in for the real service that needs no account.

It imports nothing else of passoproxy, so that it catches the proxy's mistakes and does not share them. People who
develop against the API start it with `passoproxy sandbox`; programs use `Sandbox` from `passoproxy.sandbox.app`.
"""
