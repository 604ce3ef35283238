"""Notes on images; and which decisions a model made about images that it was made of."""

import sqlite3

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add both, and drop a column that nobody reads, which an old SQLite cannot; it is empty there from now on."""
    op.create_table(
        "notes",
        sa.Column("id", BIG, nullable=False),
        sa.Column("image_id", BIG, nullable=False),
        sa.Column("user_name", sa.String(length=80), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("given_at", sa.String(length=32), nullable=False),
        sa.Column("trail_seq", BIG, nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_notes_image_id"),
        sa.ForeignKeyConstraint(["trail_seq"], ["trail.seq"], name="fk_notes_trail_seq"),
        sa.PrimaryKeyConstraint("id", name="pk_notes"),
    )
    op.create_index("ix_notes_image_id", "notes", ["image_id"])
    op.add_column("decisions", sa.Column("is_known", sa.Boolean(), nullable=False, server_default=sa.false()))
    if op.get_bind().dialect.name != "sqlite" or sqlite3.sqlite_version_info >= (3, 35):
        op.drop_column("products", "false_alarm_rate")
