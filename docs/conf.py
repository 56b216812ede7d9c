"""Settings of the documentation: Markdown by MyST, theme Furo, warnings are errors (`./dev docs`)."""

import holdfast

project = "Holdfast"
author = "The Holdfast authors"
copyright = "The Holdfast authors, Apache-2.0"
release = version = holdfast.__version__

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = f"Holdfast {release}"
