"""Random networks: a seed decides on operators, their arguments, and how they are wired."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

CHANNELS = 4


class Named(nn.Module):
    """A function of one tensor as a module, so that its output has a name."""

    def __init__(self, label, function):
        super().__init__()
        self.label = label
        self.function = function

    def forward(self, x):
        return self.function(x)

    def extra_repr(self):
        return self.label


class RandomGraph(nn.Module):
    """Some steps; each takes the last result, and a join takes an earlier one of the same shape too."""

    def __init__(self, seed, steps=5, size=(9, 10)):
        super().__init__()
        self.draw = random.Random(seed)
        self.kept = []
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.steps = nn.ModuleList()
            x = torch.zeros(1, CHANNELS, *size, dtype=torch.float64)
            self.joins = []
            earlier = [x]
            for _ in range(steps):
                step, x = self._feasible(x)
                alike = [number for number, one in enumerate(earlier) if one.shape == x.shape]
                join = self.draw.choice([None, "add", "cat", "in place", "into half"]) if alike else None
                self.steps.append(step)
                self.joins.append((join, self.draw.choice(alike) if alike else None))
                x = self._joined(x, earlier, self.joins[-1])
                if x.shape[1] != CHANNELS:
                    mix = nn.Conv2d(x.shape[1], CHANNELS, 1).double()
                    self.steps.append(mix)
                    self.joins.append((None, None))
                    earlier.append(x)
                    x = mix(x)
                earlier.append(x)

    def _feasible(self, x):
        """A step that torch accepts for a tensor of this shape, and what it makes of it."""
        while True:
            step = self._step(tuple(x.shape)).double()
            try:
                y = step(x.clone())
            except (RuntimeError, ValueError):  # too small for it
                continue
            if y.numel():
                return step, y

    def forward(self, x):
        earlier = [x]
        for step, join in zip(self.steps, self.joins, strict=True):
            x = self._joined(step(x), earlier, join)
            earlier.append(x)
        return x

    def _joined(self, x, earlier, join):
        how, number = join
        if how is None:
            return x
        other = earlier[number]
        if how == "add":
            return x + 0.5 * other
        if how == "cat":
            return torch.cat([x, other], 1)
        x = x.clone()
        if how == "in place":
            x += other
        else:
            x[:, :2, ::2].add_(other[:, :2, ::2])
        return x

    def _step(self, shape):
        draw = self.draw
        height, width = shape[2:]
        small = min(height, width)
        kinds = ["conv", "relu", "crop", "flip", "roll", "turn", "channels", "softplus"]
        if small >= 3:
            kinds += ["conv", "conv", "window", "pool", "pad", "resize", "adaptive", "mirror", "halves", "write"]
        if small <= 12:
            kinds += ["transposed", "resize"]
        kind = draw.choice(kinds)
        return getattr(self, f"_{kind}")(height, width)

    def _conv(self, height, width):
        draw = self.draw
        kernel = (draw.choice([1, 2, 3]), draw.choice([1, 3]))
        dilation = tuple(
            draw.choice([1, 2]) if 2 * (k - 1) < n else 1 for k, n in zip(kernel, (height, width), strict=True)
        )
        padding = tuple(draw.randrange(k) for k in kernel)
        reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        padding = tuple(max(p, r - n + 1, 0) for p, r, n in zip(padding, reach, (height, width), strict=True))
        mode = draw.choice(["zeros", "zeros", "reflect", "replicate", "circular"])
        if any(p >= n for p, n in zip(padding, (height, width), strict=True)):
            mode = "zeros"
        return nn.Conv2d(
            CHANNELS, CHANNELS, kernel, stride=draw.choice([1, 1, 2, 3]), padding=padding, dilation=dilation,
            groups=draw.choice([1, 2, 4]), padding_mode=mode,
        )  # fmt: skip

    def _window(self, height, width):
        draw = self.draw
        kind = draw.choice([nn.MaxPool2d, nn.AvgPool2d])
        return kind(
            draw.choice([2, 3]), stride=draw.choice([1, 2]), padding=draw.choice([0, 1]), ceil_mode=draw.random() < 0.5
        )

    _pool = _window

    def _transposed(self, height, width):
        draw = self.draw
        kernel, stride = draw.choice([1, 2, 3, 4]), draw.choice([1, 2, 3])
        padding = draw.randrange((kernel + 1) // 2)
        output_padding = draw.randrange(stride)
        if (min(height, width) - 1) * stride - 2 * padding + kernel < 1:
            padding = 0
        return nn.ConvTranspose2d(
            CHANNELS, CHANNELS, kernel, stride=stride, padding=padding, output_padding=output_padding,
            groups=draw.choice([1, 2]),
        )  # fmt: skip

    def _resize(self, height, width):
        draw = self.draw
        mode = draw.choice(["nearest", "nearest-exact", "bilinear", "bicubic"])
        size = (draw.randint(2, 14), draw.randint(2, 14)) if draw.random() < 0.5 else None
        factor = None if size else draw.choice([2, 1.5, 0.5])
        corners = draw.random() < 0.5 if mode in ("bilinear", "bicubic") else None
        smooth = mode in ("bilinear", "bicubic") and not corners and draw.random() < 0.3
        return Named(
            f"resize {mode} {size} {factor} {corners} {smooth}",
            lambda x: F.interpolate(x, size, factor, mode, corners, antialias=smooth),
        )

    def _adaptive(self, height, width):
        draw = self.draw
        return draw.choice([nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d])((draw.randint(1, 7), draw.randint(1, 7)))

    def _pad(self, height, width):
        amounts = [self.draw.choice([0, 1, 2, -1]) for _ in range(4)]
        return Named(f"pad {amounts}", lambda x: F.pad(x, amounts))

    def _mirror(self, height, width):
        mode = self.draw.choice(["reflect", "replicate", "circular"])
        amounts = [self.draw.choice([0, 1, 2]) for _ in range(4)]
        return Named(f"pad {mode} {amounts}", lambda x: F.pad(x, amounts, mode))

    def _crop(self, height, width):
        top, step = self.draw.randrange(max(1, height - 2)), self.draw.choice([1, 1, 2])
        return Named(f"crop {top}:{step}", lambda x: x[:, :, top::step])

    def _flip(self, height, width):
        dim = self.draw.choice([1, 2, 3])
        return Named(f"flip {dim}", lambda x: x.flip(dim))

    def _roll(self, height, width):
        shift, dim = self.draw.choice([-2, 1, 3]), self.draw.choice([1, 2, 3])
        return Named(f"roll {shift} {dim}", lambda x: x.roll(shift, dim))

    def _turn(self, height, width):
        return Named("turn", lambda x: x.transpose(2, 3))

    def _halves(self, height, width):
        """Two halves, treated apart."""
        return Named("halves", lambda x: torch.cat([x[:, :2], F.avg_pool2d(x[:, 2:], 3, 1, 1)], 1))

    def _channels(self, height, width):
        return self.draw.choice([nn.ChannelShuffle(2), Named("chunk", lambda x: torch.cat(x.chunk(2, 1)[::-1], 1))])

    def _write(self, height, width):
        """Through a view into memory of its own."""

        def write(x):
            y = x.new_zeros(x.shape[0], x.shape[1], x.shape[2] + 1, x.shape[3])
            y[:, :, 1:] = x
            y[:, 1:3, :, 0] += y[:, :2, :, -1].clone()
            return y

        return Named("write", write)

    def _relu(self, height, width):
        return nn.LeakyReLU(0.3, inplace=True)

    def _softplus(self, height, width):
        return nn.Softplus()
