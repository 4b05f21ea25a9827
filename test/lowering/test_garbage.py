"""The collector of cycles stands still while something is compiled."""

import gc

import pytest

from tilewright.lowering.garbage import paused_collection


def test_the_collector_is_paused_inside_and_runs_again_behind() -> None:
    with paused_collection():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    try:
        with paused_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_an_error_inside_lets_the_collector_run_again() -> None:
    with pytest.raises(ValueError, match="inside"), paused_collection():
        raise ValueError("inside")
    assert gc.isenabled()
