"""Selection: every kind of selector, wrapped models, and what is said when nothing matches."""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch
from torch import nn
from zoo import ZOO

import spatialprobe as sp
from spatialprobe.errors import ArgumentError, LayerNotFoundError
from spatialprobe.model.select import all_layers, select, select_one


def names(model, selector):
    return [layer.name for layer in select(model, selector)]


@pytest.fixture
def nested():
    return nn.ModuleDict(
        {
            "stem": nn.Conv2d(3, 4, 3),
            "layer1": nn.Sequential(nn.Conv2d(4, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())),
            "head": nn.Linear(4, 2),
        }
    )


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (nn.Conv2d, ["stem", "layer1.0", "layer1.1.0"]),
        ((nn.Conv3d, nn.Linear), ["head"]),
        ("layer1.0", ["layer1.0"]),
        ("layer1.*", ["layer1.0", "layer1.1", "layer1.1.0", "layer1.1.1"]),
        ("layer1.?", ["layer1.0", "layer1.1"]),
        ("layer[12].0", ["layer1.0"]),
        (re.compile(r"layer\d\.\d+"), ["layer1.0", "layer1.1"]),
        (
            lambda name, module: name.endswith("0") and isinstance(module, nn.Conv2d),
            ["layer1.0", "layer1.1.0"],
        ),
        (["head", nn.Conv2d], ["stem", "layer1.0", "layer1.1.0", "head"]),
        (("head", "stem"), ["stem", "head"]),
        ("", [""]),
    ],
)
def test_every_kind_of_selector(nested, selector, expected):
    """A selector finds the layers it describes, each once, in the model's order."""
    assert names(nested, selector) == expected


def test_module_itself(nested):
    """A module of the model selects itself."""
    assert names(nested, nested["layer1"][1]) == ["layer1.1"]
    assert names(nested, [nested["head"], nested["stem"]]) == ["stem", "head"]


def test_module_under_several_names_is_one_layer():
    """A shared module is one layer, found by each of its names."""
    model = ZOO["shared"].model()
    (layer,) = select(model, nn.Conv2d)
    assert (layer.name, layer.aliases) == ("conv", ("again",))
    assert names(model, "again") == ["conv"]


def test_every_module_is_listed_once():
    """All modules of a model are layers, the model itself too."""
    for specimen in ZOO.values():
        model = specimen.model()
        assert [layer.module for layer in all_layers(model)] == list(model.modules())


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile], ids=["DataParallel", "compile"])
def test_wrappers_are_left_out_of_names(nested, wrap):
    """Names are those of the wrapped model; names with the wrapper's prefix are accepted."""
    wrapped = wrap(nested)
    prefix = "module." if wrap is nn.DataParallel else "_orig_mod."
    assert names(wrapped, nn.Conv2d) == ["stem", "layer1.0", "layer1.1.0"]
    assert names(wrapped, prefix + "layer1.0") == ["layer1.0"]
    assert names(wrapped, "") == [""]
    assert names(nested, prefix + "layer1.0") == ["layer1.0"]


def test_wrapper_inside_a_model(nested):
    """A compiled part in the middle of a model adds nothing to the names."""
    nested["layer1"] = torch.compile(nested["layer1"])
    assert names(nested, nn.Conv2d) == ["stem", "layer1.0", "layer1.1.0"]
    assert names(nested, "layer1._orig_mod.0") == ["layer1.0"]


def test_child_that_is_called_module_keeps_its_name():
    """Only real wrappers are transparent: a part that is named `module` by its author stays."""
    model = nn.Sequential()
    model.add_module("module", nn.Conv2d(1, 1, 1))
    assert names(model, nn.Conv2d) == ["module"]


def test_many_names_are_found_without_a_search_for_the_nearest(monkeypatch):
    """Each of many names, also of one module under several, finds its module; only an error looks for similar ones."""
    model = nn.Sequential(*(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()) for _ in range(50)))
    model.again = model[7]
    truth = dict(model.named_modules(remove_duplicate=False))

    def search(*arguments, **options):
        raise AssertionError("searched for similar names")

    monkeypatch.setattr("spatialprobe.model.names.get_close_matches", search)
    for name, module in truth.items():
        assert [layer.module for layer in select(model, name)] == [module]
        assert [layer.module for layer in select(model, module)] == [module]
    everything = select(model, list(truth))
    assert [layer.module for layer in everything] == list(dict.fromkeys(truth.values()))
    assert select(model, [f"{name}*" for name in truth]) == everything == select(model, list(truth.values()))
    with pytest.raises(AssertionError, match="similar"):
        select(model, ["0", "no such"])


def test_misspelt_name_is_told_the_nearest():
    """The error for a wrong name offers the nearest names and lists what is there."""
    with pytest.raises(LayerNotFoundError) as caught:
        select(ZOO["chain"].model(), "covn1")
    assert str(caught.value) == (
        "No layer named 'covn1'. Did you mean 'conv1' or 'conv2'? Its layers: conv1, relu1, pool, conv2, relu2."
    )
    assert isinstance(caught.value, KeyError)


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        (
            nn.Conv3d,
            "no module of type Conv3d. Select its convolutions with layers=nn.Conv2d. Its layers: conv1,",
        ),
        ((nn.Conv3d, nn.Linear), "no module of type Conv3d or Linear"),
        ("Conv2d", "Select layers of a type by the type itself, nn.Conv2d, not by its name"),
        ("layer*", r"No layer named 'layer\*'"),
        (re.compile("conv"), "The pattern 'conv' does not match a whole layer name"),
        (nn.Conv2d(1, 1, 1), "This Conv2d is not part of Chain"),
        (lambda name, module: False, "The predicate is true for no module of Chain, which has 6 modules"),
        (["conv1", "nope"], "No layer named 'nope'"),
    ],
)
def test_nothing_matches(selector, message):
    """Whatever kind of selector matches nothing, the error says so and shows what there is."""
    with pytest.raises(LayerNotFoundError, match=message):
        select(ZOO["chain"].model(), selector)


def test_many_layers_are_summed_up_by_type():
    """A large model is described by its types, not by a wall of names."""
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(40)))
    with pytest.raises(LayerNotFoundError, match=r"Its layers by type: Linear \(40\)"):
        select(model, "x")


@pytest.mark.parametrize("selector", [3, None, [], int, [3.5]])
def test_no_selector_at_all(selector):
    """What cannot be a selector is refused with the kinds that can."""
    with pytest.raises(ArgumentError, match="layers"):
        select(ZOO["chain"].model(), selector)


@pytest.mark.parametrize(
    ("predicate", "signature"),
    [(lambda module: True, "(module)"), (lambda: True, "()"), (lambda a, b, c: True, "(a, b, c)")],
)
def test_predicates_of_other_arguments(predicate, signature):
    """A predicate is told what it is given, instead of an error from inside the library."""
    with pytest.raises(ArgumentError, match=re.escape(f"takes {signature}: pass one of a name and a module")):
        select(ZOO["chain"].model(), predicate)


def test_predicates_of_every_kind():
    """Whatever can be called with a name and a module will do, also where its signature is unknown."""
    model = ZOO["chain"].model()

    class First:
        def __call__(self, name, module):
            return name == "conv1"

    for predicate in (First(), First().__call__, partial(lambda wanted, name, module: name == wanted, "conv1")):
        assert [layer.name for layer in select(model, predicate)] == ["conv1"]
    assert len(select(model, partial(max, key=str))) == 6  # a built-in function tells no signature


def test_one_layer():
    """A selector of one layer finds it; one of several is told which."""
    model = ZOO["chain"].model()
    assert select_one(model, "conv1").module is model.conv1
    assert select_one(model, model.pool).name == "pool"
    with pytest.raises(ArgumentError, match=r"layer='conv\*' matches 2 layers \('conv1', 'conv2'\): choose one"):
        select_one(model, "conv*")
    with pytest.raises(ArgumentError, match=r"source=.*Conv2d.* matches 2 layers"):
        sp.receptive_fields(model, (1, 3, 12, 12), source=nn.Conv2d)
    with pytest.raises(LayerNotFoundError, match="Did you mean 'conv1'"):
        select_one(model, "covn1")
