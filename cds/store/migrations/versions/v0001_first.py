"""Calls, verdicts, feedback and used tokens."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_HASH = sa.String(32)
_WORD = sa.String(64)
_UUID = sa.String(36)
_INSTANT = sa.DateTime(timezone=True)


def _column(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def upgrade() -> None:
    op.create_table(
        "call",
        sa.Column("id", _HASH, primary_key=True),
        _column("at", _INSTANT),
        *(_column(name, _WORD) for name in ("service", "hook", "mode", "ruleset")),
        *(_column(name, _HASH) for name in ("patient", "user_hash")),
        *(_column(name, sa.Integer()) for name in ("cards", "milliseconds")),
    )
    op.create_index("ix_call_at", "call", ["at"])
    op.create_table(
        "verdict",
        sa.Column("id", _HASH, primary_key=True),
        _column("call", _HASH),
        _column("card", _UUID),
        _column("at", _INSTANT),
        *(_column(name, _WORD) for name in ("hook", "rule", "outcome", "indicator", "shown", "ruleset")),
        *(_column(name, _HASH) for name in ("patient", "user_hash", "order_hash")),
    )
    op.create_index("ix_verdict_card", "verdict", ["card"])
    op.create_index("ix_verdict_at", "verdict", ["at"])
    op.create_index("ix_verdict_user", "verdict", ["user_hash", "at"])
    op.create_table(
        "feedback",
        sa.Column("id", _HASH, primary_key=True),
        _column("card", _UUID),
        _column("outcome", _WORD),
        _column("at", _INSTANT),
        _column("received_at", _INSTANT),
        _column("reason", _WORD),
    )
    op.create_index("ix_feedback_card", "feedback", ["card"])
    op.create_index("ix_feedback_received", "feedback", ["received_at"])
    op.create_table(
        "used_token",
        sa.Column("token", _HASH, primary_key=True),
        _column("expires", sa.BigInteger()),
    )
    op.create_index("ix_used_token_expires", "used_token", ["expires"])


def downgrade() -> None:
    for table in ("used_token", "feedback", "verdict", "call"):
        op.drop_table(table)
