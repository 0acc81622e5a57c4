import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.data.safe_pickle import load_pickle
from presets.errors import CifartuiError
from tests.cifar_files import pickled, rows

# What Python 2 and numpy 1 wrote of {"data": one row of three bytes 1, 2, 3, "labels": [7]}, by hand.
OF_PYTHON_2 = (
    b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    b"(K\x01K\x01K\x03\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    b"\x89U\x03\x01\x02\x03tbU\x06labels]K\x07au."
)


class Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.target),))


def test_a_pickle_of_python_2_loads() -> None:
    content = load_pickle(OF_PYTHON_2, "train")
    assert content["labels"] == [7]
    np.testing.assert_array_equal(content["data"], np.array([[1, 2, 3]], dtype=np.uint8))
    reference = pickle.loads(OF_PYTHON_2, encoding="latin1")
    np.testing.assert_array_equal(content["data"], reference["data"])


def test_a_pickle_of_python_3_loads() -> None:
    content = load_pickle(pickled(rows(5)), "train")
    assert sorted(content) == ["batch_label", "data", "filenames", "fine_labels"]
    np.testing.assert_array_equal(content["data"], rows(5)[b"data"])
    assert content["data"].dtype == np.uint8


def test_a_fortran_array_keeps_its_order() -> None:
    array = np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    np.testing.assert_array_equal(load_pickle(pickled({b"data": array}), "train")["data"], array)


def test_nothing_that_a_pickle_names_is_run(tmp_path: Path) -> None:
    target = tmp_path / "made"
    hostile = pickled({b"data": Attack(target)})
    with pytest.raises(CifartuiError, match=r"train asks Python to run \w+\.mkdir.* was not loaded"):
        load_pickle(hostile, "train")
    assert not target.exists()
    pickle.loads(hostile)  # it would have
    assert target.exists()


@pytest.mark.parametrize("name", ["builtins\neval", "os\nsystem", "numpy\nload", "numpy.core.multiarray\nscalar"])
def test_any_other_global_is_named_and_refused(name: str) -> None:
    hostile = b"\x80\x02}U\x01ac" + name.encode() + b"\n(U\x011tRs."
    with pytest.raises(CifartuiError, match=name.replace("\n", r"\.")):
        load_pickle(hostile, "train")


@pytest.mark.parametrize(
    "array", [np.array([None]), np.zeros((2, 2), np.float32), np.zeros(2, [("a", "u1")]), np.zeros(2, np.int8)]
)
def test_arrays_of_anything_but_uint8_are_refused(array: Any) -> None:
    with pytest.raises(CifartuiError, match="array"):
        load_pickle(pickled({b"data": array}), "train")


def test_an_array_may_not_claim_more_than_it_has() -> None:
    hostile = OF_PYTHON_2.replace(b"(K\x01K\x01K\x03\x86", b"(K\x01K\x01J\xff\xff\xff\x7f\x86")
    with pytest.raises(CifartuiError, match="shape does not fit"):
        load_pickle(hostile, "train")


@pytest.mark.parametrize("kept", [0, 1, 2, 10, 50, len(OF_PYTHON_2) - 1])
def test_what_is_cut_off_is_called_damaged(kept: int) -> None:
    with pytest.raises(CifartuiError, match="train is damaged or incomplete"):
        load_pickle(OF_PYTHON_2[:kept], "train")


def message(content: bytes) -> str:
    try:
        assert isinstance(load_pickle(content, "train"), dict)
    except CifartuiError as error:
        return str(error)
    return "train loaded"


def test_any_damaged_byte_gives_a_sentence_or_a_dictionary() -> None:
    for place in range(len(OF_PYTHON_2)):
        for value in b"\x00.Rb\xff":
            damaged = OF_PYTHON_2[:place] + bytes([value]) + OF_PYTHON_2[place + 1 :]
            assert message(damaged).startswith("train ")


def test_what_is_no_dictionary_is_refused() -> None:
    with pytest.raises(CifartuiError, match="no dictionary"):
        load_pickle(pickled([1, 2]), "train")


@pytest.mark.parametrize("put", [b"r\xff\xff\xff\x7f", b"p9999999999\n"])
def test_a_few_bytes_cannot_take_all_the_memory(put: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python would make a list of 2³¹ places for an object that is given that number."""
    monkeypatch.setattr("engine.data.safe_pickle._Unpickler", lambda *_, **__: pytest.fail("it was begun"))
    with pytest.raises(CifartuiError, match="damaged"):
        load_pickle(b"\x80\x02}" + put + b".", "train")
