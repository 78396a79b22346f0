"""Development against recordings: `gateway.record` writes answers as files, `gateway.replay` answers from them (docs/gateway.md).

Imported only where the configuration asks for it.
"""
