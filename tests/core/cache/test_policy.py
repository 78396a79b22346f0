"""Route policies as values."""

from passoproxy.core.cache.policy import BypassPolicy


def test_a_name_counts_whichever_list_holds_it():
    assert BypassPolicy(("a", "b"), ("b", "c")).names == {"a", "b", "c"}
