from mofgap.counts import counted


def test_one_thing_is_in_the_singular() -> None:
    assert [counted(n, "pair") for n in (0, 1, 2, 1234)] == ["0 pairs", "1 pair", "2 pairs", "1,234 pairs"]
