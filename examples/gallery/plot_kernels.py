"""
Kernels
=======

The weights themselves. A first layer of three input channels is shown in color; of deeper kernels the input channel
with the largest norm, since sixteen kernels of twelve channels each would be 192 pictures.
"""

from __future__ import annotations

import spatialprobe as sp

# %%
# The first layer: gray is zero, and each color says how much of red, green and blue a tap adds or takes away.

model = sp.examples.load_network()
first = sp.kernels(model.get_submodule("conv1"))
first.figure(title="conv1").savefig("kernels.png")

# %%
# The second: in brackets the input channel shown. White is zero, violet adds, brown takes away.

second = sp.kernels(model.get_submodule("conv2"))
