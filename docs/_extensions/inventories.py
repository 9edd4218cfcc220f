"""Links into the documentation of others, without fetching theirs: the few names that ours speaks of.

Each page is where the project's own inventory says that it is; an inventory in Sphinx's format is made of them.
"""

from __future__ import annotations

import zlib
from pathlib import Path

SITES = {
    "python": (
        "https://docs.python.org/3/",
        {
            "collections.abc.Mapping": ("class", "library/collections.abc.html#$"),
            "collections.abc.Sequence": ("class", "library/collections.abc.html#$"),
            "collections.abc.Iterable": ("class", "library/collections.abc.html#$"),
            "collections.abc.Callable": ("class", "library/collections.abc.html#$"),
            "collections.abc.Iterator": ("class", "library/collections.abc.html#$"),
            "pathlib.Path": ("class", "library/pathlib.html#$"),
            "ValueError": ("exception", "library/exceptions.html#$"),
            "LookupError": ("exception", "library/exceptions.html#$"),
            "KeyError": ("exception", "library/exceptions.html#$"),
            "MemoryError": ("exception", "library/exceptions.html#$"),
            "RuntimeError": ("exception", "library/exceptions.html#$"),
            "AssertionError": ("exception", "library/exceptions.html#$"),
        },
    ),
    "torch": (
        "https://docs.pytorch.org/docs/stable/",
        {
            "torch.Tensor": ("class", "tensors.html#$"),
            "torch.dtype": ("class", "tensor_attributes.html#$"),
            "torch.device": ("class", "tensor_attributes.html#$"),
            "torch.nn.Module": ("class", "generated/$.html#$"),
            "torch.nn.Conv2d": ("class", "generated/$.html#$"),
            "torch.utils.data.Dataset": ("class", "data.html#$"),
            "torch.utils.data.DataLoader": ("class", "data.html#$"),
        },
    ),
    "numpy": ("https://numpy.org/doc/stable/", {"numpy.ndarray": ("class", "reference/generated/$.html#$")}),
    "matplotlib": (
        "https://matplotlib.org/stable/",
        {"matplotlib.figure.Figure": ("class", "api/figure_api.html#$")},
    ),
}


def written_to(folder: Path) -> dict[str, tuple[str, str]]:
    """Write an inventory for each site; returns Sphinx's `intersphinx_mapping`."""
    folder.mkdir(parents=True, exist_ok=True)
    mapping = {}
    for site, (address, names) in SITES.items():
        lines = "".join(
            f"{name} py:{role} 1 {page.replace('$', name)} -\n" for name, (role, page) in sorted(names.items())
        )
        head = f"# Sphinx inventory version 2\n# Project: {site}\n# Version: stable\n# compressed with zlib\n"
        path = folder / f"{site}.inv"
        path.write_bytes(head.encode() + zlib.compress(lines.encode()))
        mapping[site] = (address, str(path))
    return mapping
