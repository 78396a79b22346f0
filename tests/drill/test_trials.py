"""The table of trials."""

from __future__ import annotations

from passoproxy.drill.scenarios import TRIALS
from passoproxy.sandbox.faults import FAULTS
from passoproxy.sandbox.options import SandboxOptions


def test_every_fault_of_the_sandbox_is_rehearsed() -> None:
    names = [each.name for each in TRIALS]
    assert len(set(names)) == len(names)
    assert set(FAULTS) <= set(names)
    assert {"full_disk", "clock_step", "two_instances", "kill", "suspend", "restart", "provider_away"} <= set(names)


def test_their_options_are_the_sandboxs() -> None:
    for each in TRIALS:
        SandboxOptions(**each.options)


def test_only_what_nobody_can_keep_is_called_hopeless() -> None:
    assert {each.name for each in TRIALS if each.hopeless} == {"refresh_lost_for_good", "revoked"}
