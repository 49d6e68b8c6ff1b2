"""Field types as JSON has them: nothing is turned into something else, numbers are finite."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, Strict

Integer = Annotated[int, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Text = Annotated[str, Strict()]
Flag = Annotated[bool, Strict()]


class Body(BaseModel):
    """A request body, or part of one. Unknown fields are kept out of the way, not refused."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())
