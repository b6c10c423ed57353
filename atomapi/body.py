"""What every body that a container sends has in common."""

from ninja import Schema
from pydantic import ConfigDict


class Body(Schema):
    """Takes the fields it names and no others (422): what is not understood is not passed over."""

    model_config = ConfigDict(extra="forbid")
