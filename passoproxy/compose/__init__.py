"""Settings in, a wired daemon out: the one place where concrete classes meet."""

from passoproxy.compose.instance import Telemetry, Wired, standing_still, telemetry

__all__ = ["Telemetry", "Wired", "standing_still", "telemetry"]
