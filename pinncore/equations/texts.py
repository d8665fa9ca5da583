"""Residuals for people: as plain text, as LaTeX, and as MathML for pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import sympy as sp
from sympy.core.alphabets import greeks
from sympy.printing.mathml import MathMLPresentationPrinter

from .channels import TorchCall


class Text(NamedTuple):
    """A residual as plain text, in LaTeX, and as the inner part of a MathML element."""

    plain: str
    latex: str
    mathml: str


class _Bare(sp.Function):  # type: ignore[misc]
    """A derivative as people write it, with subscripts: u_xx."""

    @property
    def names(self) -> tuple[str, list[str]]:
        output, *variables = map(str, self.args)
        return output, variables

    def _sympystr(self, printer: Any) -> str:
        output, variables = self.names
        return f"{output}_{''.join(variables)}"

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        output, *variables = map(printer.doprint, self.args)
        text = f"{output}_{{{' '.join(variables)}}}"
        return text if exp is None else f"{{{text}}}^{{{exp}}}"


class _MathML(MathMLPresentationPrinter):  # type: ignore[misc]
    def _print__Bare(self, expression: _Bare) -> Any:
        output, *variables = (self._print(each) for each in expression.args)
        row, subscript = self.dom.createElement("mrow"), self.dom.createElement("msub")
        for variable in variables:
            row.appendChild(variable)
        subscript.appendChild(output)
        subscript.appendChild(row)
        return subscript


def text_of(residual: Any, outputs: Mapping[str, Any]) -> Text:
    """Return a residual for people, with `outputs` by name written without their arguments."""
    if isinstance(residual, TorchCall):
        name = getattr(residual.function, "__name__", "function")
        parts = [text_of(each, outputs) for each in residual.arguments]
        plain, latex, mathml = (list(texts) for texts in zip(*parts, strict=True)) if parts else ([], [], [])
        inner = "<mo>,</mo>".join(mathml)
        return Text(
            f"{name}({', '.join(plain)})",
            rf"{_latex_name(name)}\left({', '.join(latex)}\right)",
            f"<mi>{name}</mi><mo>(</mo>{inner}<mo>)</mo>",
        )
    expression = sp.sympify(residual)
    bare = {output: sp.Symbol(name) for name, output in outputs.items()}
    derivatives = {
        each: _Bare(bare[each.expr], *each.variables) for each in expression.atoms(sp.Derivative) if each.expr in bare
    }
    shown = expression.xreplace(derivatives).xreplace(bare)
    names = {each: _latex_name(each.name) for each in shown.free_symbols}
    printer = _MathML({"symbol_names": {each: each.name for each in shown.free_symbols}})
    return Text(str(shown), sp.latex(shown, symbol_names=names), printer.doprint(shown))


def _latex_name(name: str) -> str:
    """Return a name in LaTeX: Greek letters and single letters as such, words upright."""
    if len(name) == 1 or name.lower() in greeks:
        return sp.latex(sp.Symbol(name))
    word = name.replace("_", r"\_")
    return rf"\mathrm{{{word}}}"
