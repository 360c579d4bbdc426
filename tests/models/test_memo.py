"""What was made lately is made once, in bounded memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

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


def test_a_value_that_another_made_meanwhile_stays() -> None:
    """Threads do so; here the making asks for the same key itself."""
    memo: Memo[str, list[int]] = Memo(8, len)
    first: list[int] = [1]
    assert memo.get("a", lambda: [0, *memo.get("a", lambda: first)]) is first
    assert memo._bytes == 1


def test_threads_lose_nothing_where_values_come_and_go() -> None:
    memo: Memo[int, str] = Memo(3, len)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda k: memo.get(k % 7, lambda: str(k % 7)), range(20_000)))
    assert found == [str(k % 7) for k in range(20_000)]
    assert memo._bytes == len(memo._values) <= 3
