"""Options: defaults are usable, what cannot work is refused with its name."""

import pytest

from passoproxy.sandbox.options import FEATURES, SandboxOptions


def test_defaults_are_those_of_the_contract() -> None:
    options = SandboxOptions()
    assert (options.host, options.port, options.lifetime) == ("127.0.0.1", 8620, 3600.0)
    assert (options.client_id, options.client_secret) == ("demo", "demo")
    assert options.features == FEATURES


def test_secrets_do_not_show() -> None:
    shown = repr(SandboxOptions(client_secret="hush-1", static_token="hush-2"))
    assert "hush" not in shown


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"lifetime": 0.5}, ("lifetime", "0.5", "at least 1")),
        ({"latency": -1.0}, ("latency", "-1.0")),
        ({"quota": -1}, ("quota",)),
        ({"journal_size": 0}, ("journal_size",)),
        ({"features": ("content.county",)}, ("features", "content.county", "content.country")),
        ({"faults": ("refresh_lots",)}, ("refresh_lots", "refresh_lost")),
    ],
)
def test_what_cannot_work_is_refused(wrong: dict[str, object], words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 (the text is looked at below)
        SandboxOptions(**wrong)  # type: ignore[arg-type]
    for word in words:
        assert word in str(refused.value)
