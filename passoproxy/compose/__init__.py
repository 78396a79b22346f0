"""Settings in, a wired daemon out: the one place where concrete classes meet.

Nothing is begun here but what a constructor does; `daemon` runs what comes out. Tests call `wire` with a clock of their own.
"""

from passoproxy.compose.wiring import Telemetry, Wired, standing_still, telemetry, wire

__all__ = ["Telemetry", "Wired", "standing_still", "telemetry", "wire"]
