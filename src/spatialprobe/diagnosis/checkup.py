"""One call that names what is wrong with a model, with the measurement that shows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches

import torch
from torch import nn

from spatialprobe.arguments import as_device, as_int, check_function, is_iterable, short_repr
from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, NotApplicable, Rule, RuleFunction
from spatialprobe.diagnosis.gather import Load, gather
from spatialprobe.diagnosis.result import Checkup, rank
from spatialprobe.diagnosis.rules import TABLE
from spatialprobe.diagnosis.subject import Subject
from spatialprobe.errors import ArgumentError, describe_error
from spatialprobe.mappings import FrozenMapping
from spatialprobe.model.batch import Forward
from spatialprobe.model.layout import LayoutChoice, check_layout
from spatialprobe.model.select import Selector, check_model
from spatialprobe.statistics.batches import Data
from spatialprobe.statistics.distributed import TIMEOUT
from spatialprobe.statistics.progress import Shown, check_progress


def checkup(
    model: nn.Module,
    data: Data,
    *,
    layers: Selector = nn.Conv2d,
    rules: Iterable[str | RuleFunction] | None = None,
    batch_size: int = 64,
    device: torch.device | str | None = None,
    num_workers: int = 0,
    progress: Shown = "auto",
    timeout: float = TIMEOUT,
    layout: LayoutChoice = "auto",
    forward: Forward | None = None,
) -> Checkup:
    """Return what is wrong with a model, each finding with the measurement that shows it, the worst first.

    One pass over the data reduces the activations of all layers; a few passes more on the first samples, and the
    receptive fields, tell the rest. The model runs in evaluation mode, and is restored afterwards. Under `torchrun`,
    every process must call this, as for `sweep`, and all return the same.

    Args:
        model: any module.
        data: as for `sweep`: a data set or a tensor of samples, or an iterable of batches. Some hundred samples that
            the model was made for are enough; training data without augmentation will do.
        layers: the layers whose activations are measured, as for `Probe`. Modes, modules that never run, and geometry
            are looked at in the whole model.
        rules: names of rules, functions of your own, or both, in place of all rules of the table. A function takes the
            `Evidence` and returns findings; or a sentence on what is in order; or raises `diagnosis.NotApplicable`.
        batch_size: the number of samples of a data set or tensor that run at once; iterables yield their own batches.
        device: the device on which the model runs; by default the one it is on.
        num_workers: the number of processes that load samples of a data set.
        progress: whether to show a progress bar; "auto": if stderr is a terminal, or in a notebook.
        timeout: the seconds for all processes to join, and for a sign of life of each after that.
        layout: of the layers' outputs, as for `sweep`.
        forward: a function `(model, batch) -> output` that calls the model on a batch, as for `sweep`.

    Raises:
        ArgumentError: an argument is invalid, there is no such rule, or the data is empty.
        LayerNotFoundError: a selector of layers matches nothing.
        LayerNotRunError: a layer that was chosen by its name does not run.
        ForwardError: the model raises an error on the first samples; the message says what it was given.
        SweepError: the data or the model raised later, or another process failed.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.ReLU(), nn.Conv2d(6, 12, 3)).eval()
    >>> with torch.no_grad():
    ...     model[0].weight[2] = -1.0  # of images that are never negative, this sees nothing
    >>> found = sp.checkup(model, torch.rand(200, 3, 16, 16), rules=["training_mode", "dead_channels"])
    >>> found
    Checkup of Sequential: 200 samples, 1 warning; 1 rule passed
      severity  rule           layer  measured  limit
      warning   dead_channels  0             1      0
    >>> found.findings[0].channels
    (2,)
    """
    check_model(model)
    check_layout(layout)
    check_progress(progress)
    check_function(forward, "forward", "lambda model, batch: model(batch['image'])")
    chosen = choose_rules(rules)
    as_int(batch_size, "batch_size", least=1)
    as_int(num_workers, "num_workers", least=0)
    inner = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    subject = Subject(inner, forward, as_device(device), layout)
    evidence = gather(subject, data, layers, Load(batch_size, num_workers, progress, timeout))
    return judge(evidence, chosen)


def choose_rules(rules: Iterable[str | RuleFunction] | None) -> dict[str, RuleFunction]:
    """Return the functions of rules by name.

    Raises:
        ArgumentError: there is no rule of a name, an entry is neither a name nor a function, or two have one name.
    """
    if rules is None:
        return {name: rule.function for name, rule in TABLE.items()}
    if isinstance(rules, str) or not is_iterable(rules):
        raise ArgumentError(
            f"rules must be a list of names and functions, such as ['dead_channels', my_rule], not {short_repr(rules)}."
        )
    chosen: dict[str, RuleFunction] = {}
    for one in rules:
        name, function = _find_rule(one)
        if name in chosen:
            raise ArgumentError(f"rules names {name!r} twice.")
        chosen[name] = function
    if not chosen:
        raise ArgumentError("rules is empty: there is nothing to examine. Leave it out for all rules.")
    return chosen


def _find_rule(one: object) -> tuple[str, RuleFunction]:
    if isinstance(one, Rule):
        return one.name, one.function
    if isinstance(one, str):
        name = str(one)  # which is hashable, whatever the class of `one`
        if name not in TABLE:
            near = get_close_matches(name, TABLE, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ArgumentError(f"There is no rule {short_repr(name)}.{hint} Rules: {', '.join(TABLE)}.")
        return name, TABLE[name].function
    if callable(one):
        return getattr(one, "__name__", None) or type(one).__name__, one
    raise ArgumentError(f"rules holds {short_repr(one)}, which is neither the name of a rule nor a function.")


def judge(evidence: Evidence, rules: dict[str, RuleFunction]) -> Checkup:
    """Return what the rules find; one that raises is skipped, and the others go on."""
    findings: list[Finding] = []
    passed: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for name, function in rules.items():
        try:
            outcome = function(evidence)
            found = [] if isinstance(outcome, str) else _check_findings(outcome, name)
        except NotApplicable as reason:
            skipped[name] = str(reason)
            continue
        except Exception as error:
            skipped[name] = f"The rule raised {describe_error(error)}"
            continue
        if found:
            findings += found
        else:
            passed[name] = outcome if isinstance(outcome, str) else "It found nothing."
    order = {name: place for place, name in enumerate(evidence.ran)}
    return Checkup(
        findings=rank(findings, order),
        passed=FrozenMapping(passed),
        skipped=FrozenMapping(skipped),
        model=evidence.name,
        samples=evidence.samples,
        left_out=evidence.left_out,
    )


def _check_findings(outcome: object, name: str) -> list[Finding]:
    if not isinstance(outcome, Iterable):
        raise ArgumentError(f"it returned {short_repr(outcome)}, not a list of findings or a sentence")
    found = list(outcome)
    for one in found:
        if not isinstance(one, Finding):
            raise ArgumentError(f"it returned {short_repr(one)} among its findings, which is no sp.Finding")
    return [replace(one, rule=name) for one in found]  # known by the rule that found it
