"""Are characters that LaTeX reads escaped?"""

from __future__ import annotations

from vitbench.analysis.writing.markup import escape_latex

NASTY = r"50% & $x_1$ #2 {a} ~^ \cmd | [b] <c> *d*"


def test_latex_special_characters_are_escaped():
    assert escape_latex(NASTY) == (
        r"50\% \& \$x\_1\$ \#2 \{a\} \textasciitilde{}\textasciicircum{} \textbackslash{}cmd \textbar{} {[}b{]} "
        r"\textless{}c\textgreater{} *d*"
    )
