from mofgap.nearest import hint, nearest


def test_the_nearest_name_is_named_and_else_what_is_known():
    assert nearest("epohcs", ["rank", "epochs"]) == "epochs"
    assert nearest("gap", ["rank", "epochs"]) is None
    assert hint("epohcs", ["rank", "epochs"]) == "did you mean 'epochs'?"
    assert hint("gap", ["rank", "epochs"]) == "known: rank, epochs"
    assert hint("gap", []) == "known: none"


def test_names_may_be_numbers_and_many():
    assert nearest(16, (1, 2, 160)) == "160"
    assert hint("x", range(100, 125)) == f"known: {', '.join(map(str, range(100, 120)))}, ..."
