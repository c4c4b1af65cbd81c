"""What every service is told when it starts, read from the environment once."""

from datetime import timedelta
from pathlib import Path

from millrace.runtime.inbox import HORIZON
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """Settings that all services share; each service's own class adds its prefix and fields."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    postgres_dsn: SecretStr
    """The service's own database, as a libpq URL."""

    kafka_servers: str
    """Brokers to start from: `host:port`, comma-separated."""

    grpc_host: str = "127.0.0.1"
    """Address that gRPC listens on."""

    grpc_port: int = Field(0, ge=0, le=65535)
    """Port that gRPC listens on; 0 picks a free one."""

    http_host: str = "127.0.0.1"
    """Address that health and metrics listen on."""

    http_port: int = Field(0, ge=0, le=65535)
    """Port of /livez, /readyz and /metrics; 0 picks a free one."""

    artifacts_url: str
    """Store of artifacts between services, such as `file:///var/lib/millrace/artifacts`."""

    auth_jwks: Path
    """File with the public keys that sign callers' tokens, as a JWK set."""

    auth_issuer: str = "millrace"
    """Who must have signed a token."""

    auth_audience: str = "millrace"
    """For whom a token must be meant."""

    auth_grants: Path
    """File that says who may do what: `{principal: {namespace or "*": READ | EDIT | MANAGE}}`."""

    token_file: Path
    """File with the token that the service itself calls with."""

    endpoints: dict[str, str] = {}
    """Where the other services answer: name -> `host:port`, or those of several replicas, comma-separated."""

    otlp_endpoint: str = ""
    """OTLP/HTTP base URL for traces, such as `http://127.0.0.1:4318`; empty sends none."""

    trace_sample_ratio: float = Field(1.0, ge=0, le=1)
    """Share of new traces that are recorded; a trace that comes from elsewhere keeps its decision."""

    instance: int = Field(0, ge=0)
    """Ordinal of this process among the service's replicas; names its Kafka membership."""

    post_migrations: bool = False
    """Whether a start applies the `_post_` migrations too: no process of a former version is or comes beside it."""

    drain_s: float = Field(20.0, gt=0, le=25)
    """How long a stop waits for work in flight, seconds."""

    pool_size: int = Field(8, ge=2, le=64)
    """Most Postgres connections, the relay's apart."""

    concurrent_calls: int = Field(16, ge=2, le=1000)
    """Most calls served at once; more stand in line by their priority, and are shed batch first."""

    calls_per_s: float = Field(2000.0, gt=0)
    """Most calls a second of one principal in one namespace."""

    fetch_bytes: int = Field(32 * 1024 * 1024, ge=8 * 1024 * 1024)
    """Most bytes of events read at once, decompressed; one larger than a quarter is held without its value."""

    replays_per_s: float = Field(1000.0, gt=0)
    """Most held events a second that are handled again when an operator asks."""

    max_poll_s: float = Field(300.0, ge=1)
    """Longest that one round of events may take before Kafka gives their partitions to others, seconds."""

    stuck_s: float = Field(90.0, ge=5)
    """How long the process may be stuck, its event loop or one round of events, before it ends itself, seconds."""

    concurrent_tasks: int = Field(2, ge=1, le=64)
    """Most tasks computed at once."""

    housekeeping_every_s: float = Field(600.0, gt=0)
    """How often the service looks for what is past its time, seconds."""

    inbox_horizon: timedelta = Field(HORIZON, gt=timedelta())
    """How long a handled event is known again: longer than any topic that is read keeps its records."""

    held_retention: timedelta = Field(timedelta(days=90), gt=timedelta())
    """How long an event that was given up is kept; one that is parked is kept until it is settled."""

    request_retention: timedelta = Field(timedelta(days=400), gt=timedelta())
    """How long the answer to a mutating call, its audit row, is kept."""

    job_retention: timedelta = Field(timedelta(days=30), gt=timedelta())
    """How long an attempt that has ended is kept: longer than any topic that is read keeps its records."""

    stream_retention: timedelta = Field(timedelta(days=100), gt=timedelta())
    """How long a key's events are counted on after the last: then they begin at 1 again; by whole days."""

    artifact_grace: timedelta = Field(timedelta(days=7), gt=timedelta())
    """How long an artifact stays that nothing refers to: longer than any task takes."""
