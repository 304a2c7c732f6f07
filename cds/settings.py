"""What an operator decides: environment variables `TCELL_CDS_*`, a `.env` file, a TOML file.

Order of precedence: arguments, environment, `.env`, the TOML file that `TCELL_CDS_CONFIG` names. Every field
carries the sentence that the documentation prints.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

PREFIX = "TCELL_CDS_"


class SettingsError(Exception):
    """A setting that cannot be used; the text names it and says what to change."""


class Language(StrEnum):
    EN = "en"
    ZH_TW = "zh-TW"


class Mode(StrEnum):
    ACTIVE = "active"
    SILENT = "silent"  # evaluate and count, answer no cards


class AuthMode(StrEnum):
    OFF = "off"  # loopback only
    JWT = "jwt"
    PROXY = "proxy"  # mTLS or a gateway in front, stated on purpose


def _comma_separated(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _language(value: object) -> object:
    """`zh`, `zh-Hant` and `zh_TW` are one language."""
    if isinstance(value, str):
        folded = value.strip().replace("_", "-").lower()
        if folded.split("-")[0] == "zh" and not folded.startswith(("zh-hans", "zh-cn")):
            return Language.ZH_TW
        if folded.split("-")[0] == "en":
            return Language.EN
    return value


def _nothing_if_blank(value: object) -> object:
    """An empty environment variable means that nothing was set."""
    return None if isinstance(value, str) and not value.strip() else value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_separated)]
OptionalPath = Annotated[Path | None, BeforeValidator(_nothing_if_blank)]


_ASYMMETRIC = frozenset({"ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})


class JwtClient(BaseModel):
    """A client whose tokens are accepted. `jku`: the only key URLs its tokens may name; `jwks_url` or
    `jwks_file`: its keys where a token names none; `tenants`: accepted tenants, all where empty."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    jku: tuple[str, ...] = ()
    jwks_url: str = ""
    jwks_file: Path | None = None
    tenants: tuple[str, ...] = ()


class Settings(BaseSettings):
    """All settings, checked. Raises pydantic's ValidationError; `load` turns that into SettingsError."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

    clock: Annotated[datetime | None, BeforeValidator(_nothing_if_blank)] = Field(
        None,
        description="ISO 8601 instant that the rules take for now; demos and tests only, loopback only.",
    )
    language: Annotated[Language, BeforeValidator(_language)] = Field(
        Language.EN, description="Language of the cards where the request has no Accept-Language: en, zh-TW."
    )
    timezone: str = Field("Asia/Taipei", description="IANA zone of the site: days, and stamps without zone.")
    mode: Mode = Field(Mode.ACTIVE, description="active, or silent: evaluate and count, answer no cards.")
    max_cards: int = Field(10, ge=1, le=50, description="Most cards of one answer; critical ones stay.")

    base_url: str = Field(
        "", description="Public URL of this service, e.g. https://cds.example.org; never taken from Host."
    )
    auth_mode: AuthMode = Field(
        AuthMode.OFF, description="Client authentication: off (loopback only), jwt, proxy (a gateway checks)."
    )
    jwt_clients: Mapping[str, JwtClient] = Field(
        default_factory=dict,
        description='Clients that may call with AUTH_MODE=jwt, by issuer: {"https://ehr.example.org": '
        '{"jku": ["https://ehr.example.org/jwks.json"]}}; jwks_url or jwks_file where tokens have no jku; '
        "tenants to accept only some.",
    )
    jwt_algorithms: Words = Field(
        ("ES384", "RS384"), description="Signature algorithms accepted of clients, comma-separated."
    )
    jwt_leeway_seconds: int = Field(30, ge=0, le=300, description="How far a client's clock may be off.")
    jwt_lifetime_seconds: int = Field(
        3600, ge=10, le=86_400, description="Longest life of a client token, exp minus iat."
    )
    cors_origins: Words = Field((), description="Browser origins that may call, comma-separated; none unset.")

    fhir_allowed_hosts: Annotated[Words | None, BeforeValidator(_nothing_if_blank)] = Field(
        None,
        description="FHIR hosts that may be called: host or host:port, by commas; unset: loopback.",
    )
    fhir_timeout_seconds: float = Field(1.0, gt=0, le=60, description="Longest wait for one FHIR answer.")
    fhir_retries: int = Field(1, ge=0, le=3, description="Repeats after 5xx, 429 or a lost connection.")
    fhir_page_limit: int = Field(5, ge=1, le=50, description="Most pages read of one search.")
    fhir_concurrency: int = Field(24, ge=1, le=64, description="FHIR requests at once, per hook call.")
    fhir_response_bytes: int = Field(
        20 * 1024 * 1024, ge=1024, description="Largest FHIR answer that is read, in bytes."
    )
    not_offered_seconds: float = Field(
        600, ge=0, description="How long a resource type that a FHIR server refuses is not asked for again."
    )

    budget_seconds: float = Field(
        1.2, gt=0, le=60, description="Time for one hook call in all; EHRs drop late answers."
    )
    evaluation_seconds: float = Field(
        0.2, ge=0, le=30, description="Share of the budget kept for the rules after the last FHIR answer."
    )
    client_budgets: Mapping[str, float] = Field(
        default_factory=dict, description='Budget per client issuer, in seconds: {"https://ehr": 2.0}.'
    )
    body_bytes: int = Field(20 * 1024 * 1024, ge=1024, description="Largest request body, in bytes.")
    body_seconds: float = Field(10, gt=0, description="Longest time that a client may take to send its body.")
    entries: int = Field(20_000, ge=100, description="Most resources of one request, prefetch and FHIR.")

    database_url: str = Field(
        "sqlite+aiosqlite:///tcell-cds.db",
        description="SQLAlchemy URL of the store, async or plain.",
    )
    site_key: SecretStr = Field(
        SecretStr(""),
        description="Secret of 16 characters or more that hashes patients, users and orders in the store; "
        "the same for all servers of a site. Unset: kept in TCELL_CDS_SITE_KEY_FILE.",
    )
    site_key_file: Path = Field(
        Path("tcell-cds.key"), description="File of the site key; made on first use where no key is set."
    )
    retention_days: int = Field(
        0, ge=0, le=36_500, description="Audit rows older than this are deleted; 0 keeps them."
    )
    override_hours: float = Field(
        24,
        ge=0,
        le=168,
        description="How long a warning overridden at order-select is not repeated at order-sign; 0: always "
        "repeated.",
    )
    concurrency: int = Field(
        100, ge=1, le=10_000, description="Hook calls at once, per process; further ones are told to retry."
    )
    site_map: OptionalPath = Field(None, description="CSV or TOML with the hospital's own codes.")
    site_file: OptionalPath = Field(None, description="TOML with what the hospital decides about rules.")
    sign_off_file: OptionalPath = Field(None, description="TOML: which rules were reviewed, by whom, when.")
    discovery_version: bool = Field(
        True, description="Name the CDS Hooks version in discovery; false for validators that refuse it."
    )

    @field_validator("clock")
    @classmethod
    def _clock_has_zone(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("an instant with its zone is expected, e.g. 2025-04-16T10:00+08:00")
        return value

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError("not a zone of the IANA database") from None
        return value

    @field_validator("base_url")
    @classmethod
    def _absolute_or_unset(cls, value: str) -> str:
        if value and not value.startswith(("https://", "http://")):
            raise ValueError("an absolute http(s) URL is expected")
        return value.rstrip("/")

    @field_validator("jwt_algorithms")
    @classmethod
    def _algorithms_asymmetric(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not _ASYMMETRIC.issuperset(value):
            raise ValueError(f"names of {', '.join(sorted(_ASYMMETRIC))} are expected")
        return value

    @field_validator("client_budgets")
    @classmethod
    def _budgets_positive(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        if any(not 0 < seconds <= 60 for seconds in value.values()):
            raise ValueError("a budget is between 0 and 60 seconds")
        return value

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    def now(self) -> datetime:
        """The rules' now, in the site's zone: the frozen clock where one is set."""
        return (self.clock or datetime.now(self.zone)).astimezone(self.zone)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, _TomlFile(settings_cls)


class _TomlFile(InitSettingsSource):
    """The file that TCELL_CDS_CONFIG names; a key that is no setting is refused."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        named = os.environ.get(PREFIX + "CONFIG", "").strip()
        values: dict[str, Any] = {}
        if named:
            path = Path(named)
            try:
                values = tomllib.loads(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
                raise SettingsError(f"{PREFIX}CONFIG: {path.name}: {error}") from error
            for key in values:
                if key not in settings_cls.model_fields:
                    raise SettingsError(f"{path.name}: unknown setting {key}")
        super().__init__(settings_cls, init_kwargs=values)


def load(**given: Any) -> Settings:
    """Settings from the environment, `given` first. Raises SettingsError naming every wrong setting."""
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = (
            f"{PREFIX}{str(item['loc'][0]).upper() if item['loc'] else 'CONFIG'}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        )
        raise SettingsError("; ".join(lines)) from None


def is_loopback(host: str) -> bool:
    """True for names and addresses that only this machine reaches."""
    folded = host.strip().rstrip(".").lower().removeprefix("[").removesuffix("]")
    if folded == "localhost":
        return True
    try:
        return ipaddress.ip_address(folded).is_loopback
    except ValueError:
        return False


def check_startup(settings: Settings, host: str) -> None:
    """Refuse to listen where the settings are not safe. Raises SettingsError."""
    if is_loopback(host):
        return
    if settings.clock is not None:
        raise SettingsError(
            f"{PREFIX}CLOCK freezes the clinical clock and is for demos and tests: refused on host {host}. "
            "Unset it, or listen on 127.0.0.1."
        )
    if settings.auth_mode is AuthMode.OFF:
        raise SettingsError(
            f"Host {host} is reachable from outside, but {PREFIX}AUTH_MODE is off. Set it to jwt, or to "
            "proxy where a gateway authenticates the clients, or listen on 127.0.0.1."
        )
    if settings.auth_mode is AuthMode.JWT and not settings.base_url:
        raise SettingsError(
            f"{PREFIX}AUTH_MODE=jwt needs {PREFIX}BASE_URL: tokens are checked against the public URL of the "
            "service, which is never taken from the Host header."
        )
