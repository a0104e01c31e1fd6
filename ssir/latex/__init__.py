"""The equations of a spec, as LaTeX."""

from ssir.latex.document import document as document
