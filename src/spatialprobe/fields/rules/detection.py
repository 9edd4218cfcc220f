"""Rules of torchvision's operators: where they look depends on values, so that boxes are upper bounds."""

from __future__ import annotations

from spatialprobe.fields.reach import Reach, constant, union
from spatialprobe.fields.rules.operation import Operation
from spatialprobe.fields.rules.table import add_rule


def _deform(operation: Operation) -> Reach:
    """A deformable convolution [Dai et al. 2017]: offsets and masks of each unit, and pixels from anywhere."""
    image, outputs = operation.reach("input"), operation.shape
    parts = [image.reduced([2, 3], keepdim=True).regrouped(1, operation["groups"], outputs[1])]
    parts += [
        operation.reach(name).reduced([1], keepdim=True) for name in ("offset", "mask")[: 1 + operation["use_mask"]]
    ]
    return operation.with_all_of(union(parts, outputs), "weight", "bias").inexact()


def _pool_regions(operation: Operation) -> list[Reach]:
    """Regions (K, C, height, width) of any image of the batch [He et al. 2017], wherever boxes are."""
    image = operation.reach("input").reduced([0, 2, 3], keepdim=True)
    if image.shape[1] != operation.shape[1]:  # channels that depend on the position in the region
        image = image.reduced([1], keepdim=True)
    seen = operation.with_all_of(image.expanded(operation.shape), "rois").inexact()
    return [seen, *(seen.everything(tuple(one.shape)) for one in operation.results[1:])]


def _keep_boxes(operation: Operation) -> Reach:
    """The indices of the boxes that overlap no better one: each, and their count, depends on all boxes."""
    return operation.with_all_of(constant(operation.shape), "dets", "scores").inexact()


add_rule("torchvision::deform_conv2d", _deform)
add_rule("torchvision::nms", _keep_boxes)
for _name in ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool"):
    add_rule(f"torchvision::{_name}", _pool_regions)
