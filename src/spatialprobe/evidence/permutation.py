"""A fixed permutation of pixels, the same for every image."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from spatialprobe.arguments import as_int, check_switch, make_generator, short_repr
from spatialprobe.errors import ArgumentError


@dataclass(frozen=True)
class PixelPermutation:
    """A fixed permutation of the pixels of images of one size, drawn from a seed.

    It destroys the spatial arrangement, and nothing else: each pixel keeps its colors, and the permutation can be
    inverted. For a network of fully connected layers the permuted problem is equivalent (permute its first weights in
    the same way); what a convolutional network loses, it owed to the arrangement [Ivan 2019; Deza et al. 2020]. Train
    on permuted images to measure this: testing on them alone shows only that they are new to the model.

    Called on a tensor (..., H, W), it returns a tensor of the same shape. The permutation is the same after pickling,
    and in every object with these sizes and this seed.

    >>> import torch, spatialprobe as sp
    >>> permutation = sp.evidence.PixelPermutation(2, 3, seed=1)
    >>> image = torch.arange(6).reshape(1, 2, 3)
    >>> permutation(image).tolist()
    [[[1, 5, 2], [0, 3, 4]]]
    >>> torch.equal(permutation.inverse(permutation(image)), image)
    True
    """

    height: int  # pixels
    width: int  # pixels
    seed: int = field(default=0, kw_only=True)
    inverted: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        for name, least in (("height", 1), ("width", 1), ("seed", None)):
            as_int(getattr(self, name), name, least)
        check_switch(self.inverted, "inverted")

    @property
    def order(self) -> torch.Tensor:
        """The source pixel of each pixel of the result, row by row; int64 (H * W,)."""
        drawn = torch.randperm(self.height * self.width, generator=make_generator(self.seed), device="cpu")
        return drawn.argsort() if self.inverted else drawn

    @property
    def inverse(self) -> PixelPermutation:
        """The permutation that restores the original order."""
        return PixelPermutation(self.height, self.width, seed=self.seed, inverted=not self.inverted)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return the images (..., H, W) with their pixels permuted.

        Raises:
            ArgumentError: they have another size.
        """
        if not isinstance(images, torch.Tensor):
            raise ArgumentError(f"images must be a tensor (..., H, W), not {short_repr(images)}.")
        if images.ndim < 2 or tuple(images.shape[-2:]) != (self.height, self.width):
            raise ArgumentError(
                f"This permutation is of {self.height} x {self.width} pixels, but the tensor is {tuple(images.shape)}. "
                f"Pass images (..., {self.height}, {self.width})."
            )
        return images.flatten(-2)[..., self.order.to(images.device)].reshape(images.shape)
