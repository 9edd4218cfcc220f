"""Tests mirror the modules: each module has one known place for its tests, and each test file says what it tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

import spatialprobe

SOURCE = Path(spatialprobe.__file__).parent
TESTS = Path(__file__).parent

# Most test files are named after the module that they test, `tests/model/test_select.py` after `model/select.py`. The
# others speak of a promise that several modules keep together; these are named here. Private modules without a test
# file of their own are tested through the promise that they serve.
PROMISES = {
    "test_arguments": "errors",
    "test_surface": "",
    "test_folded_batches": "",
    "test_several_runs": "",
    "test_kinds_of_models": "model/copies model/placement",
    "test_mirror": "",
    "test_docs": "",
    "test_words": "",
    "test_pages": "",
    "test_readme": "",
    "test_wrong_calls": "",
    "test_torch_settings": "model/settings",
    "test_odd_weights": "model/copying",
    "test_restoration": "model/snapshot model/hooks",
    "test_surrogates": "",
    "render/test_picture": "notebook",
    "activations/test_exactness": "activations/guard",
    "activations/test_gradients": "activations/gradient activations/graphs activations/frozen activations/watch",
    "activations/test_isolation": "activations/recorder activations/checkpoints model/compiled model/modes",
    "activations/test_keeping": "activations/keeper activations/budget activations/memory",
    "activations/test_layer_types": "activations/leaves",
    "activations/test_odd_tensors": "tensors",
    "activations/test_probe": (
        "activations/records activations/maps activations/collection activations/table model/calls model/names"
    ),
    "activations/test_post": "activations/descent",
    "activations/test_capture": "model/stop",
    "activations/test_left_out": "",
    "activations/test_sequences": "",
    "activations/test_unseen_writes": "",
    "attribution/test_attribute": (
        "attribution/ablation attribution/collection attribution/forwards attribution/observing attribution/result "
        "attribution/samples attribution/target"
    ),
    "attribution/test_picture": "render/attribution_map",
    "attribution/test_captum": "attribution/integrated attribution/run",
    "comparison/test_compare": (
        "comparison/channels comparison/joined comparison/matching comparison/pairs comparison/rows comparison/run "
        "comparison/side comparison/similarity"
    ),
    "comparison/test_state": "comparison/comparison_page comparison/examples comparison/result",
    "command/test_main": (
        "__main__ command/checkup command/compare command/fields command/maps command/options command/plan "
        "command/reasons command/report command/setup command/sweep"
    ),
    "diagnosis/test_checkup": (
        "diagnosis/evidence diagnosis/finding diagnosis/gather diagnosis/measured diagnosis/pictures diagnosis/drawing "
        "diagnosis/result diagnosis/samples diagnosis/subject diagnosis/survey diagnosis/watches diagnosis/written"
    ),
    "diagnosis/test_healthy": "",
    "diagnosis/test_rules": (
        "diagnosis/layer_pictures diagnosis/outflow diagnosis/shifts diagnosis/taps "
        "diagnosis/unreached diagnosis/rules/aliasing diagnosis/rules/batch_mixing diagnosis/rules/border "
        "diagnosis/rules/batch_norm_mismatch "
        "diagnosis/rules/checkerboard diagnosis/rules/constant_channels diagnosis/rules/dead_channels "
        "diagnosis/rules/duplicate_channels diagnosis/rules/field_saturated diagnosis/rules/field_small "
        "diagnosis/rules/gridding diagnosis/rules/low_rank diagnosis/rules/never_run "
        "diagnosis/rules/nondeterministic diagnosis/rules/nonfinite diagnosis/rules/saturated "
        "diagnosis/rules/scale_growth diagnosis/rules/training_mode diagnosis/rules/uncovered_pixels"
    ),
    "evidence/test_concepts": "evidence/alignment evidence/concept_masks evidence/unit_places statistics/overlap",
    "evidence/test_forward": "",
    "evidence/test_restoration": "evidence/layer evidence/result",
    "evidence/test_surgery": "evidence/reparametrized",
    "examples/test_answers": "",
    "examples/test_benchmarks": "",
    "examples/test_claims": "",
    "examples/test_data": "",
    "examples/test_gallery": "",
    "examples/test_grad_cam": "",
    "examples/test_network": "examples/photo examples/training",
    "examples/test_notebooks": "",
    "examples/test_pictured": "",
    "examples/test_similarity": "",
    "examples/test_study": "",
    "fields/test_boxes": (
        "fields/box fields/call fields/dispatch fields/reach fields/traits fields/memory "
        "fields/rules/elementwise fields/rules/mixing fields/rules/placing fields/rules/resampling fields/rules/shapes "
        "fields/rules/windows"
    ),
    "fields/test_chains": "fields/taps",
    "fields/test_constants": "fields/constant_calls fields/constant_storage fields/deferred",
    "fields/test_effective": "fields/gradient_sums fields/images fields/unit_gradients",
    "fields/test_intervals": "fields/bounds fields/regrouping",
    "fields/test_frames": "fields/spacing fields/strided",
    "fields/test_masks": "fields/handling fields/rules/fixed_kernels fields/sizes fields/unused fields/verdict",
    "fields/test_models": "",
    "fields/test_odd_tensors": "",
    "fields/test_operator_database": "fields/rules/detection fields/rules/linear_algebra fields/rules/norms",
    "fields/test_quantized": "fields/rules/quantized",
    "fields/test_recurrent": "fields/rules/recurrent",
    "fields/test_python_values": "fields/origins",
    "fields/test_receptive_fields": (
        "fields/forward_pass fields/gates fields/question fields/collection fields/nonlinearities model/weights"
    ),
    "fields/test_scripted": "",
    "libraries/test_libraries": "",
    "model/test_interrupts": "",
    "model/test_inputs": "model/forward",
    "render/test_evolution": "render/steps render/gif",
    "render/test_exemplar_patches": (
        "render/exemplar_checks render/exemplar_units render/rows render/signals render/solids"
    ),
    "render/test_feature_maps": "render/mosaic render/sheet render/inline",
    "render/test_figures": "render/frame render/written render/letters",
    "render/test_histogram": "render/counts render/histogram_page",
    "render/test_overlay": "render/panels render/outline render/images render/field_words",
    "render/test_scale": "render/marks",
    "report/test_agreement": "report/swept",
    "report/test_axes": "report/line_sheets",
    "report/test_contributions": "report/over_input",
    "report/test_browser": "report/stills report/coded_kernels",
    "report/test_browser_axes": "",
    "report/test_browser_contributions": "",
    "report/test_browser_synthesis": "",
    "report/test_browser_exploring": "report/exemplar_images report/patch_sheets",
    "report/test_page_budget": "report/page_exemplars report/shares report/map_pieces",
    "report/test_synthesized": "report/concepts report/layer_results report/page_synthesis",
    "report/test_write": (
        "report/html report/inputs report/layers report/passes report/page_sweeps report/payload report/packing "
        "report/pixels report/result report/seen"
    ),
    "statistics/test_checkpoint": "statistics/state",
    "statistics/test_distributed": (
        "statistics/board statistics/door statistics/link statistics/rendezvous statistics/terms"
    ),
    "statistics/test_identity": "model/code model/description",
    "statistics/test_reducers": (
        "statistics/bounds statistics/covariance statistics/dead statistics/histogram statistics/reducer "
        "statistics/units"
    ),
    "statistics/test_result": "statistics/summary statistics/values",
    "statistics/test_stops": "statistics/progress",
    "statistics/test_store_damage": "statistics/store_seal testing/store",
    "statistics/test_sweep": (
        "statistics/feed statistics/intake statistics/loading statistics/loop statistics/part model/samples"
    ),
    "storage/test_archive": "storage/checksum storage/schema storage/stored storage/tensors",
    "storage/test_files": "storage/temporary",
    "storage/test_restricted_pickle": "storage/rebuilding",
    "synthesis/test_maximize_activation": (
        "synthesis/aim synthesis/ascent synthesis/parametrization synthesis/picture synthesis/result "
        "synthesis/transforms"
    ),
    "testing/test_rule": "fields/rule_results fields/rules/operation fields/rules/table",
    "statistics/test_moments": "testing/reducer",
    "training/test_bit_identity": "training/fixed_batch training/sampler training/step",
    "training/test_find_nonfinite": "training/nonfinite training/own_passes",
    "training/test_history": "training/numbers render/history_page",
}


@cache
def modules():
    """Return all modules of the package, as paths from it without suffix."""
    found = (path.relative_to(SOURCE).with_suffix("") for path in SOURCE.rglob("*.py") if path.stem != "__init__")
    return {path.as_posix() for path in found}


@cache
def files_of_tests():
    """Return all test files, as paths from the folder of tests without suffix."""
    return {path.relative_to(TESTS).with_suffix("").as_posix() for path in TESTS.rglob("test_*.py")}


def mirrored(test):
    """Return the module after which a test file is named; None where there is no such module."""
    folder, _, name = test.rpartition("test_")
    return folder + name if folder + name in modules() else None


@pytest.mark.parametrize("test", sorted(files_of_tests()))
def test_a_test_file_says_what_it_tests(test):
    """A test file is named after a module, or its promise is listed with the modules that keep it."""
    assert mirrored(test) or test in PROMISES


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_module_has_a_place_for_its_tests(module):
    """Each module has a test file of its name, or is listed once with the promise that it helps to keep."""
    places = [test for test, names in PROMISES.items() if module in names.split()]
    places += [test for test in files_of_tests() if mirrored(test) == module]
    assert len(places) == 1, places


def test_what_is_listed_is_there():
    """No entry of the list has lost its test file or its module."""
    assert set(PROMISES) <= files_of_tests()
    assert {name for names in PROMISES.values() for name in names.split()} <= modules()
