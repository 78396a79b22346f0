"""The memory of what was given is bounded, and so is the log of changes."""

from passoproxy.sandbox.origin import changes
from passoproxy.sandbox.origin.changes import Changes


def test_the_oldest_answers_are_forgotten() -> None:
    memory = Changes(lambda: 0.0)
    for number in range(changes._REMEMBERED + 1):
        memory.give(str(number), "/x", ["TR"], ["DE"])
    assert memory.given("0") is None
    assert memory.given("1") is not None


def test_the_log_is_bounded_and_numbered() -> None:
    memory = Changes(lambda: 7.0)
    memory.mark(["TR"] * 150, important=True)
    assert len(memory.log) == 100
    assert memory.log[-1] == (150, 7.0, "TR")
    assert memory.important_at(["TR"], after=150) is None
    assert memory.important_at(["TR"], after=149) == 7.0
