"""How the documentation is built: `sphinx-build -W docs docs/_build/html`, without a network."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

import gallery  # noqa: E402 (beside this file)
import inventories  # noqa: E402
import pictures  # noqa: E402

import spatialprobe  # noqa: E402

project = "spatialprobe"
author = "The spatialprobe developers"
copyright = "The spatialprobe developers, MIT license"
version = release = spatialprobe.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
    "docstrings",
    "drawings",
    "gallery",
    "live_page",
    "notebooks",
    "study",
]
exclude_patterns = [
    "_build",
    "_drawings",
    "_extensions",
    "gallery/study/cache",
    "gallery/**/*.ipynb",
    "gallery/**/*.md5",
    "gallery/live",
    "sg_execution_times.rst",
]
root_doc = "index"
default_role = "py:obj"  # single backticks in docstrings: a link where there is something to link to
nitpicky = False  # annotations are written for the reader: `Bools`, `Ints` and their kin are no names to look up

html_theme = "furo"
html_title = "spatialprobe"
html_static_path = ["_static"]
html_css_files = ["pictures.css"]
html_extra_path = ["gallery/live"]  # written by the extension live_page
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#2a2a6a",
        "color-brand-content": "#3d3d8f",
        "code-font-size": "0.78rem",
    },
    "dark_css_variables": {"color-brand-primary": "#b6b8e6", "color-brand-content": "#b6b8e6"},
}

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autosummary_generate = False  # its tables link to the pages under api/
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_type_aliases = {name: name for name in ("Selector", "Transform", "OutputPicker", "Rule", "Edit")}
python_use_unqualified_type_names = True
autoclass_content = "class"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

intersphinx_mapping = inventories.written_to(HERE / "_build" / "inventories")

sphinx_gallery_conf = {
    "examples_dirs": ["_build/gallery"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"plot_",
    "image_scrapers": (pictures.scraper,),
    "reset_modules": (),
    "download_all_examples": False,
    "show_signature": False,
    "capture_repr": (),
    "remove_config_comments": True,
    "subsection_order": gallery.stage(HERE.parent / "examples/gallery", HERE / "_build/gallery"),
    "within_subsection_order": gallery.TableOrder,
    "write_computation_times": False,
    "abort_on_example_error": True,
    "min_reported_time": 3600,
}
suppress_warnings = ["config.cache"]  # the scraper is a function, which cannot be compared with that of the last build
