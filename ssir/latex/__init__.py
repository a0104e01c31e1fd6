"""The equations of a spec, as LaTeX: a whole document, or the displays alone."""

from ssir.latex.document import displays as displays
from ssir.latex.document import document as document
