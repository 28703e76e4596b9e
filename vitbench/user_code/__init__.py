"""Which code of a user's is it, where does this process have it from, and which line of it failed?

A user's file is loaded (`loading`); its classes and functions get names by their source (`identity`, such as `Shift@1a2b3c4d`:
a hash of what they reach, `reached` and `syntax`); this process knows them by these names (`registry`), in roles (`roles`).
What the command line gives as `FILE.py:NAME` or `package.module:NAME` is found by `named_code`.
What fails in them is told with its line (`blame`). Imports no torch.
"""

from vitbench.user_code.blame import reason_of, users_code
from vitbench.user_code.identity import USER_NAME, identify, is_user_name
from vitbench.user_code.loading import load_file, text_of
from vitbench.user_code.registry import (
    Carried,
    carried,
    is_loaded,
    lookup,
    names_in_files,
    register,
    source_of,
)
from vitbench.user_code.roles import ROLES, SHAPE

__all__ = [
    "ROLES",
    "SHAPE",
    "USER_NAME",
    "Carried",
    "carried",
    "identify",
    "is_loaded",
    "is_user_name",
    "load_file",
    "lookup",
    "names_in_files",
    "reason_of",
    "register",
    "source_of",
    "text_of",
    "users_code",
]
