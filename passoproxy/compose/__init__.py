"""Settings in, a wired daemon out: the one place where concrete classes meet."""

from passoproxy.compose.wiring import Telemetry, Wired, standing_still, telemetry

__all__ = ["Telemetry", "Wired", "standing_still", "telemetry"]
