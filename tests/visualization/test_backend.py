import gc

import pytest

from visualization.backend import _without_collections
from visualization.cli.running import loading_tensorflow


def importing(fails):
    with _without_collections():
        assert not gc.isenabled()
        if fails:
            raise ImportError


def test_garbage_is_collected_again_after_the_import_also_if_it_fails():
    importing(fails=False)
    assert gc.isenabled()
    with pytest.raises(ImportError):
        importing(fails=True)
    assert gc.isenabled()


def test_who_collects_no_garbage_is_left_alone():
    gc.disable()
    try:
        importing(fails=False)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_only_a_command_that_loads_tensorflow_keeps_what_there_is_from_collection():
    before = gc.get_freeze_count()
    with loading_tensorflow(quiet=True):  # it is loaded already
        pass
    assert gc.get_freeze_count() == before
