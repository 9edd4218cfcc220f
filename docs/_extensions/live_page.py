"""The interactive page on the first page of the documentation: of the network and the photo that ship."""

from __future__ import annotations

from pathlib import Path

import torch
from sphinx.application import Sphinx

import spatialprobe as sp

OUT = "gallery/live/live_page.html"  # below docs; the folder is copied beside the built pages
MAX_BYTES = 1_900_000


def write(app: Sphinx) -> None:
    """Write the page, unless an earlier build left it there."""
    path = Path(app.srcdir) / OUT
    if path.exists():
        return
    model, photo = sp.examples.load_network(), sp.examples.load_photo(128)
    patterns, labels, masks = sp.examples.draw_masked_patterns(300, seed=1, size=128)
    data = torch.utils.data.TensorDataset(patterns, labels)
    reducers = {"top": sp.Exemplars, "moments": sp.Moments}
    swept = sp.sweep(model, data, reducers, at="post_activation", progress=False)
    made = [
        sp.maximize_activation(model, layer, shape=(3, 32, 32), steps=64, progress=False) for layer in swept
    ]
    pairs, names = list(zip(patterns, masks, strict=True)), sp.examples.CLASSES
    aligned = sp.evidence.concept_alignment(
        model, pairs, concepts=names, quantile=0.05, at="post_activation", progress=False
    )
    images = torch.stack([photo, patterns[0]])
    sp.write_report(
        path,
        model,
        images,
        at="post_activation",
        sweep=swept,
        dataset=data,
        classes=names,
        synthesized=made,
        concepts=aligned,
        title="A network trained on drawn patterns",
        max_bytes=MAX_BYTES,
        progress=False,
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Before any page is read; Sphinx looks for the folder as soon as all extensions are set up."""
    (Path(app.srcdir) / OUT).parent.mkdir(parents=True, exist_ok=True)
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
