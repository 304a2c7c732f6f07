"""The tables. Everything in them is ours, a hash, or a word of a closed list; nothing is free text.

`migrations/` builds them; a test compares the two.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Index, Integer, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

HASH = String(32)
WORD = String(64)


class Instant(TypeDecorator[datetime]):
    """An aware instant. SQLite keeps no zone, so it is UTC there."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        found: datetime = value
        return found if found.tzinfo else found.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """Metadata of all tables."""


class Call(Base):
    """One hook call that was answered with 200."""

    __tablename__ = "call"
    __table_args__ = (Index("ix_call_at", "at"),)

    id: Mapped[str] = mapped_column(HASH, primary_key=True)
    at: Mapped[datetime] = mapped_column(Instant)
    service: Mapped[str] = mapped_column(WORD)
    hook: Mapped[str] = mapped_column(WORD)
    mode: Mapped[str] = mapped_column(WORD)
    ruleset: Mapped[str] = mapped_column(WORD)
    patient: Mapped[str] = mapped_column(HASH)
    user: Mapped[str] = mapped_column("user_hash", HASH)
    cards: Mapped[int] = mapped_column(Integer)
    milliseconds: Mapped[int] = mapped_column(Integer)


class Verdict(Base):
    """One finding of a call. `card` is the card's uuid, "" where none was sent."""

    __tablename__ = "verdict"
    __table_args__ = (
        Index("ix_verdict_card", "card"),
        Index("ix_verdict_at", "at"),
        Index("ix_verdict_user", "user_hash", "at"),
    )

    id: Mapped[str] = mapped_column(HASH, primary_key=True)
    call: Mapped[str] = mapped_column(HASH)
    card: Mapped[str] = mapped_column(String(36))
    at: Mapped[datetime] = mapped_column(Instant)
    hook: Mapped[str] = mapped_column(WORD)
    rule: Mapped[str] = mapped_column(WORD)
    outcome: Mapped[str] = mapped_column(WORD)
    indicator: Mapped[str] = mapped_column(WORD)
    shown: Mapped[str] = mapped_column(WORD)
    ruleset: Mapped[str] = mapped_column(WORD)
    patient: Mapped[str] = mapped_column(HASH)
    user: Mapped[str] = mapped_column("user_hash", HASH)
    order: Mapped[str] = mapped_column("order_hash", HASH)


class Feedback(Base):
    """What a client reported about a card. `id` is derived from the content: a repeat is the same row."""

    __tablename__ = "feedback"
    __table_args__ = (Index("ix_feedback_card", "card"), Index("ix_feedback_received", "received_at"))

    id: Mapped[str] = mapped_column(HASH, primary_key=True)
    card: Mapped[str] = mapped_column(String(36))
    outcome: Mapped[str] = mapped_column(WORD)
    at: Mapped[datetime] = mapped_column(Instant)
    received_at: Mapped[datetime] = mapped_column(Instant)
    reason: Mapped[str] = mapped_column(WORD)


class UsedToken(Base):
    """A client token that was used; forgotten once it has expired."""

    __tablename__ = "used_token"
    __table_args__ = (Index("ix_used_token_expires", "expires"),)

    token: Mapped[str] = mapped_column(HASH, primary_key=True)
    expires: Mapped[int] = mapped_column(BigInteger)
