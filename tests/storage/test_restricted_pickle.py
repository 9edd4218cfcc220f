"""Restricted pickles: what was written is read back, bit by bit, and no bytes make or call anything else."""

from __future__ import annotations

import datetime
import enum
import functools
import io
import os
import pickle
import random
import threading
import warnings
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import spatialprobe as sp
from spatialprobe.storage.restricted_pickle import ForeignNameError, RestrictedPickle, find_global

ARRAYS = [
    np.arange(12.0).reshape(3, 4),
    np.arange(12.0).reshape(3, 4).T,
    np.arange(12)[::-2],
    np.array(3.0),
    np.zeros((0, 3), np.float16),
    np.array([True, False]),
    np.array([1 + 2j], np.complex64),
    np.array([1, 2**15], np.uint16),
    np.array([1, 2], ">f4"),
    np.array([1.1], np.longdouble),
    np.array(["a", "ü"]),
    np.array([], "U3"),
    np.array([b"\0a"]),
    np.array(["2020-01-01"], "datetime64[D]"),
    np.array([(1.5, 2)], dtype=[("a", "f4"), ("b", "i2")]),
]
PLAIN = [
    *(None, True, -1, 2**70, 2**2000, 1.5, "x\ud800", b"", b"\0\xff", bytearray(b"x"), 1 + 2j, range(1, 5, 2)),
    *((), (1,), [[]], {1: {2}}, frozenset([3]), slice(1, None), Counter("aab"), OrderedDict(a=1)),
    *(defaultdict(list, {1: [2]}), deque([1, 2], 3), torch.Size([1, 2]), torch.device("cpu"), torch.bfloat16),
    *(np.float32(2), np.bool_(True), np.int64(5), np.dtype("f4"), np.dtype([("a", "<f4")])),
]
TENSORS = [
    torch.arange(6.0).reshape(2, 3).T,
    torch.ones(3, dtype=torch.bfloat16),
    torch.ones(2, dtype=torch.uint16),
    torch.zeros(0, 3),
    torch.tensor([1 + 2j]).conj(),
    nn.Parameter(torch.ones(2)),
    torch.eye(2).to_sparse(),
]


@pytest.fixture(autouse=True)
def _quietly():
    """No warning of torch's reaches the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def returned(value, *examples):
    """A value that was written and read by what learned from examples; by another object than wrote it."""
    return RestrictedPickle(examples).loads(RestrictedPickle(examples).dumps(value))


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays(array):
    """Every dtype but that of objects, in either byte order and memory order; the array owns its memory."""
    found = returned(array)
    assert (type(found), found.dtype, found.shape) == (np.ndarray, array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()
    assert found.flags.f_contiguous == np.array(array, order="K").flags.f_contiguous
    assert found.flags.writeable
    assert found.flags.owndata


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_values(value):
    """Python's own values and containers, torch's and numpy's small ones; with their types."""
    found = returned([value, value])
    assert type(found[0]) is type(value)
    assert found == [value, value]


def test_arrays_of_objects():
    """What they hold is written as anything else."""
    found = returned(np.array([[None, "x"], [(1,), 2.5]], object))
    assert found.tolist() == [[None, "x"], [(1,), 2.5]]
    with pytest.raises(ForeignNameError, match=r"holds an object of the class .*Late"):
        returned(np.array([Late()], object))


@pytest.mark.parametrize("tensor", TENSORS, ids=lambda tensor: f"{tensor.dtype}{tuple(tensor.shape)}")
def test_tensors(tensor):
    """Values, dtype, strides, and what a Parameter is."""
    found = returned({"a": tensor})["a"]
    assert type(found) is type(tensor)
    assert found.dtype == tensor.dtype
    assert torch.equal(found.to_dense(), tensor.to_dense())
    if tensor.layout is torch.strided:
        assert found.stride() == tensor.stride()


def test_tensors_that_share_memory():
    """They share it again: writing to one changes the other."""
    whole = torch.zeros(4)
    found = returned([whole, whole[:2]])
    found[1][0] = 7
    assert found[0][0] == 7


def test_an_array_of_the_memory_of_a_tensor_of_another_dtype():
    """An array beside a tensor that looks at its bytes is no obstacle."""
    array = np.arange(4.0)
    array, tensor = returned([array, torch.from_numpy(array).view(torch.uint8)])
    assert array.tobytes() == tensor.numpy().tobytes()


class Kind(enum.Enum):
    A = 1


class Late:
    pass


@dataclass(frozen=True)
class Listed:
    value: object


@dataclass(slots=True)
class Slotted:
    value: object


class Pair(namedtuple("Pair", "a b")):
    pass


class Grown(list):
    pass


class Counts(dict):
    def __missing__(self, key):
        return 0


class Old:
    """Says how it is pickled as classes did before protocol 2."""

    def __init__(self):
        self.value = 4

    def __reduce__(self):
        return super().__reduce__()


def doubled(value):
    return 2 * value


class Holder:
    state_types = (Listed,)

    class Inner:
        value = 1

    def __init__(self):
        self.method = self.two
        self.partial = functools.partial(doubled, 4)
        self.values = doubled, torch.mean, np.add, nn.Conv2d, np.float64
        self.kinds = Kind.A, Slotted([1]), Pair(1, 2), Grown([1, 2]), Counts(a=1), random.Random(3)
        self.date = datetime.date(2020, 1, 2)
        self.net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU())
        self.itself, self.old = self, Old()
        self.late = None

    def two(self):
        return 2


def test_objects_of_all_kinds():
    """Dataclasses, slots, enums, methods, partials, modules, cycles, nested and listed classes."""
    held = Holder()
    held.late = Holder.Inner(), Listed(3), {"a": [Slotted(np.arange(2))]}
    held.late[0].value = 5
    found = returned(held, Holder())
    assert (found.itself, found.old.value) == (found, 4)
    assert (found.method(), found.method.__self__ is found, found.partial()) == (2, True, 8)
    assert found.values == held.values
    assert found.kinds[:5] == held.kinds[:5]
    assert [type(kind) for kind in found.kinds] == [type(kind) for kind in held.kinds]
    assert found.kinds[4]["nothing"] == 0
    assert found.kinds[5].random() == held.kinds[5].random()
    assert torch.equal(found.net[0].weight, held.net[0].weight)
    assert (found.date, found.late[0].value, found.late[1]) == (held.date, 5, Listed(3))
    assert found.late[2]["a"][0].value.tolist() == [0, 1]


def test_classes_made_in_a_function():
    """A class is known as the very class that the example has, also where pickle would not find it by its name."""

    class Local:
        def __init__(self, value=0):
            self.value = value

    assert returned(Local(3), Local()).value == 3


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Late(), "the class .*Late"),
        (Listed(1), "the class .*Listed"),
        (doubled, "holds .*doubled"),
        (lambda: 0, "holds .*<lambda>"),
        ([].append, "holds builtins.list.append of an object"),
        (os.system, "holds posix.system"),
        (np.random.default_rng(), "made by the function numpy.random.*generator_ctor"),
        (torch.Generator(), "the class torch.*Generator"),
        (nn.Linear(1, 1), "the class .*Linear"),
        (2**3000, "an int of more than 255 bytes"),
        ((i for i in ()), "cannot be written: .*generator"),
        (threading.Lock(), "cannot be written: .*lock"),
    ],
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)
def test_what_is_not_written(value, name):
    """What could not be read back is an error when it is written, and the message names it."""
    with pytest.raises(sp.StorageError, match=name):
        RestrictedPickle([Holder.Inner()]).dumps({"a": [value]})


class Explodes:
    """A pickle of it calls a function."""

    def __init__(self, function, *arguments):
        self.made_by = function, arguments

    def __reduce__(self):
        return self.made_by


def crafted(stream):
    """A file of torch's with this pickle in it."""
    whole, made = io.BytesIO(RestrictedPickle().dumps(torch.ones(2))), io.BytesIO()
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            new.writestr(name, stream if name.endswith("data.pkl") else old.read(name))
    return made.getvalue()


NAMED = f"c{find_global.__module__}\nfind_global\n".encode()


def by_name(name):
    """The opcodes that put what is known by a name on the stack."""
    return NAMED + b"X" + len(name).to_bytes(4, "little") + name.encode() + b"\x85R"


THIS, OURS = f"{__name__}.", "spatialprobe.storage.rebuilding."
ATTACKS = {
    "a function by itself": (pickle.dumps(Explodes(os.system, "touch exploded"), 2), r"names posix\.system"),
    "one that torch allows": (b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n.", "names torch._tensor._rebuild_from"),
    "a class by itself": (b"\x80\x02c" + __name__.encode() + b"\nLate\n)\x81.", "names .*Late"),
    "an unknown name": (b"\x80\x02" + by_name("posix.system") + b".", r"names posix\.system"),
    "a name that is no text": (b"\x80\x02" + NAMED + b"]\x85R.", "cannot be read"),
    "calls a function that is a value": (b"\x80\x02" + by_name(THIS + "doubled") + b"K\x01\x85R.", "cannot be read"),
    "makes a class that is a value": (
        b"\x80\x02" + by_name("numpy.float64") + b")\x81.",
        "cannot be read",
    ),
    "sets attributes of a class": (
        b"\x80\x02" + by_name(THIS + "Holder.Inner") + b"N}X\x05\x00\x00\x00valueK\x09s\x86b.",
        "cannot be read",
    ),
    "a method of another class": (
        b"\x80\x02" + by_name(OURS + "_bound_method") + b"K\x01X\x08\x00\x00\x00__init__\x86R.",
        "not a method of int",
    ),
    "addresses for objects": (
        b"\x80\x02" + by_name(OURS + "_array_of_bytes") + b"X\x02\x00\x00\x00|OK\x01\x85N\x87R.",
        "bytes for an array of objects",
    ),
    "protocol 4": (pickle.dumps(Late(), 4), "protocol 4"),
    "no end": (b"\x80\x02]", "cannot be read"),
    "junk": (b"junk", "cannot be read"),
    "no pickle": (b"", "cannot be read"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_crafted(tmp_path, monkeypatch, name):
    """Nothing but known classes is made or called, whatever the bytes say, and the error names what they name."""
    monkeypatch.chdir(tmp_path)
    stream, message = ATTACKS[name]
    known = RestrictedPickle([Holder()])
    before = dict(vars(Holder.Inner))
    for safe in ([], [os.system, Late]):  # also where somebody has told torch that these are safe
        with torch.serialization.safe_globals(safe), pytest.raises(sp.StorageError, match=message):
            known.loads(crafted(stream))
    assert not list(tmp_path.iterdir())
    assert dict(vars(Holder.Inner)) == before


def test_a_crafted_file_can_do_something_in_pickle(tmp_path, monkeypatch):
    """The first of the attacks above works where it is not stopped."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(ATTACKS["a function by itself"][0])
    assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize("data", [b"", b"junk", pickle.dumps(Late()), crafted(b"")[:100]], ids=len)
def test_no_file_of_torch(data):
    """Other bytes are an error of the library's."""
    with pytest.raises(sp.StorageError, match="cannot be read"):
        RestrictedPickle().loads(data)


def test_torchscript_is_refused():
    """A file of TorchScript, which would run, is not loaded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(nn.ReLU())
        torch.jit.save(scripted, made := io.BytesIO())
    with pytest.raises(sp.StorageError, match="TorchScript"):
        RestrictedPickle().loads(made.getvalue())


def test_torchs_list_of_safe_globals_stays():
    """What somebody has put there before is there afterwards, the reducers' own classes too, and nothing else."""
    before = torch.serialization.get_safe_globals()
    with torch.serialization.safe_globals([Listed, Late]):
        within = set(torch.serialization.get_safe_globals())
        returned(Listed(1), Holder())
        with pytest.raises(sp.StorageError):
            RestrictedPickle().loads(b"")
        assert set(torch.serialization.get_safe_globals()) == within
    assert set(torch.serialization.get_safe_globals()) == set(before)


def test_threads_do_not_take_each_others_classes():
    """Many loads at once, of different classes."""
    kinds = [type(f"Kind{i}", (Listed,), {}) for i in range(4)]
    found = []

    def load(kind):
        known = RestrictedPickle([kind(0)])
        data = known.dumps([kind(i) for i in range(50)])
        found.extend(type(value) is kind for _ in range(20) for value in known.loads(data))

    threads = [threading.Thread(target=load, args=(kind,)) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4 * 20 * 50


def test_two_things_of_one_name():
    """They cannot be told apart in the bytes, which is said."""

    def made():
        class Local:
            pass

        return Local()

    with pytest.raises(ForeignNameError, match="two different objects that are named .*Local"):
        RestrictedPickle([made(), made()])
    with pytest.raises(ForeignNameError, match="holds an object of the class .*Local"):
        returned(made(), made())


def test_state_types_is_checked():
    """What is no class there is an error that names the class."""

    class Wrong:
        state_types = Listed

    with pytest.raises(sp.ArgumentError, match=r"Wrong.state_types must be a tuple of classes"):
        RestrictedPickle([Wrong()])


def test_on_another_default_device():
    """What is read is where it was written, whatever torch's default device is."""
    with torch.device("meta"):
        found = returned([torch.ones(2, device="cpu"), np.ones(2), np.array(["a"])])
    assert found[0].device.type == "cpu"
    assert found[1].tolist() == [1, 1]
