"""Measurements that test whether layers detect local spatial patterns; compare each with a control.

footprint            which units one pixel changes        a small window, or all
equivariance_error   shift the image: does it follow?     one detector everywhere, or not
orientation_tuning   which stripes activate a channel?    a direction, or none
PixelPermutation     the same pixels in another order     what the arrangement is worth
kernel_surgery       kernels without their pattern        what the pattern is worth
frozen_copy          kernels that training never touched  what training is worth
patch_coherence      do a channel's exemplars look alike? more than random patches?
linear_probe         what can be read off a layer         layer by layer
concept_alignment    is a channel active where something is? more than on others' masks?
channel_deletion     do the named channels carry it?      more than random channels?
"""

from __future__ import annotations

from spatialprobe.evidence.alignment import ConceptAlignment, ConceptAlignments
from spatialprobe.evidence.coherence import PatchCoherence, patch_coherence
from spatialprobe.evidence.concepts import concept_alignment
from spatialprobe.evidence.deletion import ChannelDeletion, channel_deletion
from spatialprobe.evidence.equivariance import EquivarianceError, equivariance_error
from spatialprobe.evidence.footprint import Footprint, footprint
from spatialprobe.evidence.orientation import OrientationTuning, orientation_tuning
from spatialprobe.evidence.permutation import PixelPermutation
from spatialprobe.evidence.probing import LinearProbe, linear_probe
from spatialprobe.evidence.surgery import frozen_copy, kernel_surgery

__all__ = [
    "ChannelDeletion",
    "ConceptAlignment",
    "ConceptAlignments",
    "EquivarianceError",
    "Footprint",
    "LinearProbe",
    "OrientationTuning",
    "PatchCoherence",
    "PixelPermutation",
    "channel_deletion",
    "concept_alignment",
    "equivariance_error",
    "footprint",
    "frozen_copy",
    "kernel_surgery",
    "linear_probe",
    "orientation_tuning",
    "patch_coherence",
]
