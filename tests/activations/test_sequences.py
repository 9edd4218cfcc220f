"""Any sequence of entering, running, raising and leaving is recorded as a simple model of it says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import booleans, integers, sampled_from
from torch import nn

import spatialprobe as sp


class Model(nn.Module):
    """Two layers; on demand it writes over the first one's output, or raises between them."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.write = self.fail = False

    def forward(self, x):
        y = self.first(x)
        if self.write:
            y.mul_(2)
        if self.fail:
            raise ZeroDivisionError
        return self.second(y)


class Expected:
    """What one active or ended probe should hold: for each record its layer, forward and value."""

    def __init__(self):
        self.records = []
        self.forwards = 0


class ProbeMachine(RuleBasedStateMachine):
    """Drives up to three probes on one model, entered and left in any order."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.model = Model()
        self.probes = [
            sp.Probe(self.model, nn.Linear, copy=how, missing="ignore") for how in ("auto", "auto", "always")
        ]
        self.active = {}
        self.ended = {}

    def teardown(self):
        """Leave what is still active: compiled models would run eagerly in all tests to come."""
        for which in self.active:
            self.probes[which].__exit__(None, None, None)

    @rule(which=integers(0, 2))
    def enter_or_leave(self, which):
        if which in self.active:
            self.probes[which].__exit__(None, None, None)
            self.ended[which] = self.active.pop(which)
        else:
            self.probes[which].__enter__()
            self.ended.pop(which, None)
            self.active[which] = Expected()

    @rule(which=integers(0, 2))
    @precondition(lambda self: self.active)
    def enter_twice(self, which):
        if which in self.active:
            with pytest.raises(sp.ProbeStateError):
                self.probes[which].__enter__()

    @rule(
        write=booleans(), fail=booleans(), seed=integers(0, 3), mode=sampled_from([torch.no_grad, torch.inference_mode])
    )
    def forward(self, write, fail, seed, mode):
        self.model.write, self.model.fail = write, fail
        x = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            first = nn.functional.linear(x, self.model.first.weight, self.model.first.bias)
            second_input = first * 2 if write else first
            second = nn.functional.linear(second_input, self.model.second.weight, self.model.second.bias)
        with mode():
            if fail:
                with pytest.raises(ZeroDivisionError):
                    self.model(x)
            else:
                self.model(x)
        for expected in self.active.values():
            expected.records.append(("first", expected.forwards, first))
            if not fail:
                expected.records.append(("second", expected.forwards, second))
            expected.forwards += 1

    @rule()
    @precondition(lambda self: self.active)
    def run_a_layer_by_hand(self):
        x = torch.ones(1, 3)
        with torch.no_grad():
            value = self.model.second(x)
        for expected in self.active.values():
            expected.records.append(("second", expected.forwards, value))

    @invariant()
    def records_are_as_expected(self):
        """A record is right, or (only where values are shared) it says that it was written over."""
        for which, expected in {**self.active, **self.ended}.items():
            records = self.probes[which].records
            assert [(r.layer, r.forward) for r in records] == [(name, number) for name, number, _ in expected.records]
            assert [r.order for r in records] == list(range(len(records)))
            for record, (name, _, value) in zip(records, expected.records, strict=True):
                try:
                    tensor = record.tensor
                except sp.MutatedActivationError:
                    assert which != 2
                    assert name == "first"
                else:
                    assert torch.equal(tensor, value)

    @invariant()
    def hooks_are_those_of_active_probes(self):
        assert len(self.model.first._forward_hooks) == len(self.active)
        assert len(self.model._forward_pre_hooks) == len(self.active)


TestSequences = ProbeMachine.TestCase
TestSequences.settings = settings(stateful_step_count=25)
