"""RFC 9875: groups of answers and their invalidation."""

import pytest

from passoproxy.core.cache import invalidation
from passoproxy.core.http.messages import fields_of


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([], []),
        (['"a"'], ["a"]),
        (['"a", "B c"', '"a", "d";x=1'], ["a", "B c", "d"]),
        (["a"], []),
        (['"a", 3'], []),
        (['"a", ("b")'], []),
        (['"a'], []),
        ([""], []),
        (["\udcff"], []),
        (
            [", ".join(f'"{number}"' for number in range(500))],
            [str(number) for number in range(invalidation.MOST_GROUPS)],
        ),
    ],
)
def test_groups_are_strings_in_a_list(lines, names):
    tags = tuple(f"cache-group:{name}" for name in names)
    assert invalidation.tagged(("t",), fields_of([("Cache-Groups", line) for line in lines])) == ("t", *tags)
    assert invalidation.invalidated_groups(fields_of([("Cache-Group-Invalidation", line) for line in lines])) == tags
