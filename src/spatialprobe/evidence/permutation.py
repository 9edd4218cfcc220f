"""One fixed rearrangement of pixels, the same for every image."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from spatialprobe.arguments import as_int, check_switch, make_generator, short_repr
from spatialprobe.errors import ArgumentError


@dataclass(frozen=True)
class PixelPermutation:
    """A fixed rearrangement of the pixels of any image of one size, drawn from a seed.

    It takes away what neighbours tell, and nothing else: each pixel keeps its colours, and the rearrangement can be
    undone. To a network of fully connected layers the rearranged problem is the very same (permute its first weights
    along); what a convolutional network loses, it owed to the arrangement [Ivan 2019; Deza et al. 2020]. Train on
    rearranged images to measure that: testing on them alone shows only that they are new to the model.

    Called on a tensor (..., H, W), it returns one of that shape. Pickled or made anew, it stays the same.

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
        """For each pixel of the result, row by row, the pixel that it comes from; int64 (H * W,)."""
        drawn = torch.randperm(self.height * self.width, generator=make_generator(self.seed), device="cpu")
        return drawn.argsort() if self.inverted else drawn

    @property
    def inverse(self) -> PixelPermutation:
        """What puts the pixels back."""
        return PixelPermutation(self.height, self.width, seed=self.seed, inverted=not self.inverted)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """The images (..., H, W) with their pixels rearranged.

        Raises:
            ArgumentError: they are of another size.
        """
        if not isinstance(images, torch.Tensor):
            raise ArgumentError(f"Pixels are those of a tensor (..., H, W), not of {short_repr(images)}.")
        if images.ndim < 2 or tuple(images.shape[-2:]) != (self.height, self.width):
            raise ArgumentError(
                f"This permutation is of {self.height} x {self.width} pixels, and the tensor is {tuple(images.shape)}: "
                "its last two axes must be these."
            )
        return images.flatten(-2)[..., self.order.to(images.device)].reshape(images.shape)
