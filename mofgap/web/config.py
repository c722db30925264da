"""The settings of ``mofgap serve``. ``--help`` imports this module, so it imports nothing heavy."""

from __future__ import annotations

from ipaddress import ip_address

from pydantic import Field

from mofgap.choices import Device
from mofgap.configuration import ConfigurationError, schema

MB = 2**20
MIN_TOKEN = 16


@schema
class ServeConfig:
    """Where the server listens, and what it accepts."""

    host: str = Field(
        "127.0.0.1",
        description="Address to listen on. Any other than this machine's own asks visitors for a token.",
    )
    port: int = Field(8000, description="Port to listen on; 0 takes a free one.", ge=0, le=65535)
    token: str | None = Field(
        None,
        description="Password for visitors, at least 16 characters; also read from MOFGAP_TOKEN. By default "
        "none on 127.0.0.1, else a random one, which is printed.",
    )
    allow_host: tuple[str, ...] = Field(
        (), description="Further names of the server, separated by commas, such as the name of a proxy."
    )
    workers: int = Field(1, description="Processes that screen; all visitors share them.", ge=1)
    device: Device = Field("auto", description="Where the network runs.")
    max_files: int = Field(1000, description="Largest number of files in one upload.", ge=1)
    max_mb: int = Field(
        200,
        description="Largest size of one upload, and of what its archives unpack to.",
        ge=1,
        json_schema_extra={"unit": "MB"},
    )
    max_structures: int = Field(5000, description="Largest number of structures in one upload.", ge=1)
    max_screenings: int = Field(
        100, description="Largest number of screenings at once, for all visitors.", ge=1
    )
    max_total_mb: int = Field(
        8000,
        description="Largest size of all uploads at once.",
        ge=1,
        json_schema_extra={"unit": "MB"},
    )
    expire_minutes: float = Field(
        5.0,
        description="A screening is removed when its page has sent nothing for so long.",
        gt=0.0,
        json_schema_extra={"unit": "min"},
    )
    keep_hours: float = Field(
        24.0,
        description="A screening that a visitor asks to keep is removed after so long.",
        gt=0.0,
        json_schema_extra={"unit": "h"},
    )

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < MIN_TOKEN:
            raise ConfigurationError(f"needs at least {MIN_TOKEN} characters", key="token")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise ConfigurationError("may hold only letters without accents, digits and signs", key="token")

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine can reach the server."""
        return self.host == "localhost" or (is_address(self.host) and ip_address(self.host).is_loopback)


def is_address(host: str) -> bool:
    """Whether a host is written as an IP address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
