"""What do all parts of a record share? They are frozen, and keep what they do not know."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Stored(BaseModel):
    """Base of what records hold: frozen, and tolerant of fields that later versions add."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    def to_json(self) -> str:
        """The object of its line, without the digest and the line break."""
        return self.model_dump_json(by_alias=True)

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)
