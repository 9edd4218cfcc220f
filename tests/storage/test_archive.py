"""Whatever a file holds, reading it gives what was saved or a StorageError, in memory proportional to the file."""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
import threading
import tracemalloc

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from sweeps import images, small_model
from torch import nn

import spatialprobe as sp
from spatialprobe.storage import tensors
from spatialprobe.storage.checksum import digest, fingerprint

LOADERS = {"records": sp.load_activations, "result": sp.SweepResult.load}
MANY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclasses.dataclass
class Armed:
    """A result whose class has code that would run."""

    path: str
    fired = []

    def __post_init__(self):
        self.fired.append(self.path)


class Gives:
    """A reducer that gives some value."""

    value = None

    def update(self, activation, samples):
        pass

    def merge(self, other):
        pass

    def result(self):
        return Gives.value


def saved(kind, folder):
    path = folder / kind
    if kind == "records":
        return sp.save_activations(path, sp.capture(small_model(), images(1), layers="0"))
    reducers = {"dead": sp.Dead, "all": sp.ChannelCovariance}
    return sp.sweep(small_model(), images(2), reducers, layers="0", progress=False).save(path)


def taken_apart(path):
    """The texts in a file's header, its description, and its tensors."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        return header, json.loads(header["description"]), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def crafted(path, header, description, tensors):
    """A file whose checksums are all right, with any description: a text, or what JSON can hold."""
    text = description if isinstance(description, str) else json.dumps(description)
    save_file(tensors, path, header | {"description": text, "digest": digest(text.encode())})


@pytest.fixture(autouse=True)
def no_value():
    """The reducer gives nothing but what a test says."""
    yield
    Gives.value = None


@pytest.fixture(params=LOADERS)
def craft(request, tmp_path):
    """A function that loads a whole file after its description was changed in some way; and the file."""
    path = saved(request.param, tmp_path)
    header, whole, tensors = taken_apart(path)

    def load(change):
        description = copy.deepcopy(whole)
        changed = change(description)
        crafted(path, header, description if changed is None else changed, tensors)
        return LOADERS[request.param](path)

    load.kind, load.path, load.whole = request.param, path, whole
    return load


def places(value, path=()):
    """All places in a description, as paths of keys and indices."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def put(description, path, value):
    """The description with a value at a place."""
    if not path:
        return value
    for key in path[:-1]:
        description = description[key]
    description[path[-1]] = value
    return None


def loaded_or_refused(load, given):
    """What a loaded file looks like, or the text of the StorageError that it is; any other error is the test's."""
    try:
        return repr(load(given))
    except sp.StorageError as error:
        return str(error)


# Values that stand where others belong.
WRONG = [
    None,
    True,
    -1,
    10**30,
    0.5,
    float("nan"),
    "",
    "0.tensor",
    "1.tensor",
    [],
    [[]],
    {},
    {"tensor": "9"},
    {"float": "x"},
]


def test_an_untouched_description_loads(craft):
    """What these tests change is a good file."""
    assert list(craft(lambda description: None)) == ["0"]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_a_wrong_value_anywhere(craft, wrong):
    """Any value in the place of any part loads as something that can be shown, or is a StorageError of few words."""
    for path in places(craft.whole):
        found = loaded_or_refused(craft, lambda description, path=path: put(description, path, copy.deepcopy(wrong)))
        assert len(found) < 1000


def test_a_missing_part_anywhere(craft):
    """No part of a description may be left out, none be there twice over, and none be added."""
    for path in list(places(craft.whole))[1:]:
        where = path[:-1]

        def remove(description, where=where, key=path[-1]):
            for step in where:
                description = description[step]
            del description[key]

        def add(description, where=where):
            for step in where:
                description = description[step]
            if isinstance(description, dict):
                description["another"] = 1

        loaded_or_refused(craft, remove)
        loaded_or_refused(craft, add)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
KINDS = st.sampled_from(["value", "float", "tensor", "array", "mapping", "list", "tuple", "dataclass"])
ANY_RESULT = st.recursive(
    ANY_JSON, lambda inner: st.dictionaries(KINDS, inner | st.lists(inner, max_size=3), max_size=2)
)


@MANY
@given(data=st.data())
def test_any_json_anywhere(craft, data):
    """Property: whatever stands wherever in a description, only StorageError comes of it."""
    path = data.draw(st.sampled_from(sorted(places(craft.whole), key=str)))
    value = data.draw(ANY_RESULT)
    loaded_or_refused(craft, lambda description: put(description, path, value))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        '{"tensors": {}}',
        "[" * 100_000,
        '{"tensors": ' + '{"a":' * 100_000,
        '{"tensors": {}, "records": ' + "9" * 5000 + "}",
        "\ud800".encode("utf-8", "surrogatepass").decode("latin1"),
    ],
    ids=["empty", "null", "list", "half", "bare", "deep", "deeper", "long number", "bytes"],
)
def test_descriptions_that_are_none(craft, text):
    """Texts that are not JSON, are nested beyond all measure, or are something else, are a StorageError."""
    with pytest.raises(sp.StorageError, match="is damaged, or was crafted"):
        craft(lambda description: text)


@pytest.mark.parametrize("depth", [99, 100, 100_000])
def test_results_that_are_nested(tmp_path, depth):
    """As deep as a result may be saved it may be loaded; deeper is a StorageError, however deep."""
    path = saved("result", tmp_path)
    header, description, tensors = taken_apart(path)
    text = json.dumps(description)
    start = text.index('{"dataclass"')
    crafted(path, header, text[:start] + '{"list": [' * depth + "]}" * depth + text[_end_of(text, start) :], tensors)
    Gives.value = nested(min(depth, 1000))
    result = sp.sweep(small_model(), images(2), {"mine": Gives}, layers="0", progress=False)
    if depth == 99:
        sp.SweepResult.load(path)
        assert sp.SweepResult.load(result.save(path))["0"]["mine"] == Gives.value
        return
    with pytest.raises(sp.StorageError, match="nested more than 100 deep|is not JSON"):
        sp.SweepResult.load(path)
    with pytest.raises(sp.StorageError, match="nested more than 100 deep"):
        result.save(path)


def nested(depth):
    """A list in a list, so many deep."""
    found = []
    for _ in range(depth - 1):
        found = [found]
    return found


def _end_of(text, start):
    """Where the value that begins at a place in a JSON text ends."""
    return start + json.JSONDecoder().raw_decode(text[start:])[1]


def test_results_that_hold_themselves(tmp_path):
    """A result that holds itself, or is nested too deep, is not saved."""
    endless = []
    endless.append(endless)
    Gives.value = endless
    result = sp.sweep(small_model(), images(4), {"mine": Gives}, layers="0")
    with pytest.raises(sp.StorageError, match="nested more than 100 deep, or holds itself"):
        result.save(tmp_path / "r")
    assert not list(tmp_path.iterdir())


def test_keys_that_would_not_be_found(tmp_path):
    """Numbers of numpy are keys as Python's are; keys that are arrays, tensors or objects are refused."""
    import numpy as np

    Gives.value = {np.int64(3): "three", (np.float64(0.5).item(), None): "pair"}
    result = sp.sweep(small_model(), images(4), {"mine": Gives}, layers="0")
    assert sp.SweepResult.load(result.save(tmp_path / "r"))["0"]["mine"] == {3: "three", (0.5, None): "pair"}
    for key in (torch.tensor(3), frozenset([3])):
        Gives.value = {key: 1}
        with pytest.raises(sp.StorageError, match="Keys may be strings, numbers, None and tuples"):
            sp.sweep(small_model(), images(4), {"mine": Gives}, layers="0").save(tmp_path / "r")
    Gives.value = np.array(["2026-01-01"], "datetime64[D]")
    with pytest.raises(sp.StorageError, match="an array of datetime64"):
        sp.sweep(small_model(), images(4), {"mine": Gives}, layers="0").save(tmp_path / "r")


def test_classes_that_a_file_names(tmp_path):
    """A file makes instances of dataclasses without running any code of theirs, and nothing but dataclasses."""
    Gives.value = Armed("a")
    path = sp.sweep(small_model(), images(4), {"mine": Gives}, layers="0").save(tmp_path / "r")
    Armed.fired.clear()
    loaded = sp.SweepResult.load(path)["0"]["mine"]
    assert type(loaded) is Armed
    assert (loaded.path, Armed.fired) == ("a", [])
    header, description, tensors = taken_apart(path)
    text = json.dumps(description)
    start = text.index('{"dataclass"')
    named = text[start : _end_of(text, start)]
    for module, name in (
        ("os", "system"),
        ("builtins", "object"),
        ("subprocess", "Popen"),
        ("spatialprobe.statistics.nothing", "A"),
        ("spatialprobe.statistics..checkpoint", "Checkpoint"),
        ("spatialprobe.statistics.batches", "share.__globals__"),
        ("torch", "nn.Module"),
        ("", ""),
        (Armed.__module__, "Armed.fired"),
        (Armed.__module__, "Armed.__init__"),
    ):
        changed = json.dumps({"dataclass": [module, name, {"path": {"value": "a"}}]})
        crafted(path, header, text.replace(named, changed), tensors)
        with pytest.raises(sp.StorageError, match="which is not imported"):
            sp.SweepResult.load(path)


def test_classes_with_a_destructor(tmp_path):
    """A dataclass that does something when it goes is not made, since a file would say to what."""

    @dataclasses.dataclass
    class Folder:
        path: str

        def __del__(self):
            Armed.fired.append(self.path)

    Folder.__qualname__ = "Folder"
    setattr(sys.modules[Folder.__module__], "Folder", Folder)  # noqa: B010
    Gives.value = Folder("a")
    path = sp.sweep(small_model(), images(4), {"mine": Gives}, layers="0").save(tmp_path / "r")
    with pytest.raises(sp.StorageError, match="which is not imported"):
        sp.SweepResult.load(path)
    delattr(sys.modules[Folder.__module__], "Folder")


@pytest.mark.parametrize("kind", LOADERS)
@MANY
@given(data=st.data())
def test_any_header(tmp_path_factory, kind, data):
    """Property: a safetensors header with any numbers, dtypes and shapes gives a StorageError, and soon."""
    folder = tmp_path_factory.getbasetemp() / f"headers_{kind}"
    if not folder.exists():
        folder.mkdir()
        saved(kind, folder)
    whole = (folder / kind).read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header, rest = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    name = data.draw(st.sampled_from(sorted(header)))
    number = st.integers(-1, 2**65) | st.sampled_from([0, 1, 2**31, 2**53, 2**62, 2**63 - 1, 2**64 - 1])
    dtype = st.sampled_from(["F64", "F32", "F4", "F6_E2M3", "F8_E8M0", "C64", "U64", "BOOL", "X9", "", 3, None])
    entry = st.fixed_dictionaries(
        {
            "dtype": dtype,
            "shape": st.lists(number, max_size=5),
            "data_offsets": st.lists(number, min_size=1, max_size=3),
        }
    )
    where = data.draw(st.sampled_from(["", "dtype", "shape", "data_offsets"]))
    if where and name != "__metadata__":
        header[name][where] = data.draw(entry)[where]
    else:
        header[name] = data.draw(entry | ANY_JSON)
    text = json.dumps(header).encode()
    damaged = folder / "damaged"
    damaged.write_bytes(
        data.draw(st.sampled_from([len(text), len(text) + 1, 2**40, 2**63])).to_bytes(8, "little") + text + rest
    )
    loaded_or_refused(LOADERS[kind], damaged)


def test_two_tensors_in_one_place(tmp_path):
    """Tensors that overlap in a file, so that a small one would take much memory, are a StorageError."""
    record = sp.capture(nn.Identity(), torch.zeros(1000), layers="")
    path = sp.save_activations(tmp_path / "a", record)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header, rest = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    description = json.loads(header["__metadata__"]["description"])
    for index in range(1, 1000):
        header[f"{index}.tensor"] = header["0.tensor"]
        description["tensors"][f"{index}.tensor"] = fingerprint(torch.zeros(1000))
    text = json.dumps(description)
    header["__metadata__"] |= {"description": text, "digest": digest(text.encode())}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + rest)
    with pytest.raises(sp.StorageError, match="damaged"):
        sp.load_activations(path)


@pytest.mark.parametrize("filler", ["[]", "{}", '{"value":1}', '""', "[[]]", "1.5"])
def test_memory_is_bounded_by_the_file(tmp_path, filler):
    """However a description is made, memory stays within a few dozen times the file's size."""
    path = saved("result", tmp_path)
    header, description, tensors = taken_apart(path)
    many = "[" + ",".join([filler] * 10_000) + "]"
    text = json.dumps(description).replace('"samples": {"value": 2}', f'"samples": {{"list": {many}}}')
    assert len(text) > len(many)
    crafted(path, header, text, tensors)
    tracemalloc.start()
    try:
        with pytest.raises(sp.StorageError):
            sp.SweepResult.load(path)
        assert tracemalloc.get_traced_memory()[1] < 100 * path.stat().st_size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", [torch.complex128, torch.complex32, torch.quint8])
@pytest.mark.filterwarnings("ignore:ComplexHalf:UserWarning", "ignore:torch.quantize_per_tensor:UserWarning")
def test_dtypes_that_no_file_holds(tmp_path, dtype):
    """A dtype that the format lacks is named, and no file is left."""
    if dtype is torch.quint8:
        value = torch.quantize_per_tensor(torch.rand(3), 0.1, 0, dtype)
    else:
        value = torch.empty(3, dtype=dtype)
    Gives.value = value
    result = sp.sweep(small_model(), images(4), {"mine": Gives}, layers="0")
    with pytest.raises(sp.StorageError, match=f"does not support {str(dtype).removeprefix('torch.')}"):
        result.save(tmp_path / "r")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float64", "complex64", "int8", "uint16", "uint64", "bool", "float8_e5m2"]
)
def test_as_the_safetensors_library_reads_it(tmp_path, dtype):
    """What is written here, that library reads: names, dtypes, shapes and bytes of tensors of every dtype it knows."""
    from safetensors.torch import load_file

    values = {
        "some": torch.arange(6).reshape(2, 3).to(getattr(torch, dtype)),
        "none": torch.zeros(0, 4).to(getattr(torch, dtype)),
        "one": torch.tensor(1).to(getattr(torch, dtype)),
    }
    Gives.value = values
    path = sp.sweep(small_model(), images(4), {"mine": Gives}, layers="0").save(tmp_path / "r")
    found = list(load_file(path).values())
    for value in values.values():
        assert any(fingerprint(value) == fingerprint(one) for one in found)
    loaded = sp.SweepResult.load(path)["0"]["mine"]
    assert {key: fingerprint(value) for key, value in loaded.items()} == {
        key: fingerprint(value) for key, value in values.items()
    }


@pytest.mark.parametrize("submit", ["works", "is refused at exit"])
def test_checksums_of_a_second_thread(tmp_path, monkeypatch, submit):
    """A file is the same byte for byte whether a second thread computes the checksums, cannot, or need not."""
    records = [sp.capture(nn.Identity(), torch.rand(3, size), layers="")[""] for size in (0, 5, 70)]
    plain = sp.save_activations(tmp_path / "plain", records).read_bytes()
    threads = []

    def hash_noted(value):
        threads.append(threading.current_thread())
        return fingerprint(value)

    def refuse(*_):
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(tensors, "_LARGE", 1)
    monkeypatch.setattr(tensors, "fingerprint", hash_noted)
    if submit != "works":
        monkeypatch.setattr(tensors.ThreadPoolExecutor, "submit", refuse)
    assert sp.save_activations(tmp_path / "other", records).read_bytes() == plain
    assert {thread is threading.main_thread() for thread in threads} == {submit != "works"}
    assert not any(thread.is_alive() for thread in threads if thread is not threading.main_thread())
