"""
Activation maximization
=======================

For each channel of the last convolution an image is made by gradient ascent [Erhan et al. 2009; Olah et al. 2017], of
just the pixels that the unit sees. Below it stand the patches of real images that activate three of the channels most:
what is made reaches further, and tells less of what the data hold.
"""

from __future__ import annotations

from matplotlib.figure import Figure

import spatialprobe as sp

# %%
# The best real images first, in one pass over the drawn patterns.

model = sp.examples.load_network()
images, labels = sp.examples.draw_patterns(1000, seed=1)
top = sp.sweep(model, images, {"top": sp.Exemplars}, layers="conv4", progress=False)[
    "conv4"
]["top"]

# %%
# All channels are searched in one batch.

found = sp.maximize_activation(
    model, "conv4", shape=(3, 32, 32), exemplars=top, progress=False
)
print(found)
found.mosaic()

# %%
# Scores of classes are the channels of the last layer, which sees all of the image.

classes = sp.maximize_activation(model, "fc", shape=(3, 32, 32), progress=False)
print(*enumerate(sp.examples.CLASSES), sep="\n")
classes.mosaic()

# %%
# Both beside real patches, and the way up.

shown = found.reached.argsort(descending=True)[:3].tolist()
field = sp.receptive_fields(model, (1, 3, 32, 32))["conv4"]
pictures = {
    "conv4: made by gradient ascent": found.mosaic(columns=6),
    "fc: made for each class": classes.mosaic(columns=5),
    f"conv4, channels {', '.join(map(str, shown))}: real patches": sp.exemplar_patches(
        top, images, field, channels=shown, interior=True
    ),
}
figure = Figure(figsize=(10, 7.6), layout="constrained")
axes = figure.subplots(2, 2, width_ratios=[1.2, 1]).flat
for one, (title, picture) in zip(axes, pictures.items(), strict=False):
    one.imshow(picture.array)
    one.set_title(title, fontsize=9)
    one.axis("off")
axes[3].plot(found.history.numpy(), linewidth=1)
axes[3].set_box_aspect(0.6)
axes[3].tick_params(labelsize=8)
axes[3].set_title("conv4: the value of each channel at each step", fontsize=9)
figure.savefig("maximize_activation.png", dpi=150)
