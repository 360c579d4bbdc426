"""What was made lately is made once, in bounded memory."""

from __future__ import annotations

from lrf_dse.models.memo import Memo


def test_the_longest_unused_goes_first() -> None:
    made: list[str] = []
    memo: Memo[str, str] = Memo(5, len)

    def get(key: str) -> str:
        def make() -> str:
            made.append(key)
            return key

        return memo.get(key, make)

    for key in ("aa", "bb", "aa", "cc", "aa", "bb"):
        assert get(key) == key
    assert made == ["aa", "bb", "cc", "bb"], "bb was unused for longest when cc came"


def test_one_that_is_too_large_stays_until_the_next() -> None:
    memo: Memo[int, str] = Memo(3, len)
    assert memo.get(1, lambda: "large") == "large"
    assert memo.get(1, lambda: "made again") == "large"
    assert memo.get(2, lambda: "b") == "b"
    assert memo.get(1, lambda: "made again") == "made again"
