"""Which class does `FILE.py:NAME`, or `package.module:NAME`, stand for on the command line?"""

from __future__ import annotations

from pathlib import Path

from vitbench.text import did_you_mean
from vitbench.user_code.loading import load_file
from vitbench.user_code.registry import register


def named_code(text: str, role: str) -> str:
    """The name, by source, of a user's code that is given in a role; this process knows it from now on.

    Raises ValueError for a file or a name that is not there, and for what cannot have the role.
    """
    file, suffix, name = text.rpartition(".py:")
    if not suffix:
        return register(text, role)
    path = Path(f"{file}.py")
    if not path.is_file():
        raise ValueError(f"{role} {text!r}: there is no file {str(path)!r}; give FILE.py:NAME")
    module = load_file(path, "study")
    if not hasattr(module, name):
        names = [known for known, value in vars(module).items() if isinstance(value, type) and known[0] != "_"]
        raise ValueError(
            f"{role} {text!r}: {path.name} has no {name}; {did_you_mean(name, names, 'give a class of the file')}"
        )
    return register(getattr(module, name), role)
