"""How many applications of primitives the tables of this folder hold."""

from . import test_legality_data, test_legality_loops, test_legality_padding, test_tensorize

TABLES = (test_legality_data, test_legality_loops, test_legality_padding, test_tensorize)


def test_the_tables_hold_120_accepted_applications_and_120_refused() -> None:
    assert sum(len(table.ACCEPTED) for table in TABLES) >= 120
    assert sum(len(table.REFUSED) for table in TABLES) >= 120


def test_each_refused_application_names_its_condition() -> None:
    conditions = [case[0] for case in test_legality_data.REFUSED]
    conditions += [case[0] for case in test_legality_padding.REFUSED]
    assert all(conditions)
