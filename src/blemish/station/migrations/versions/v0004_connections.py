"""Cameras, and brokers of MQTT."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make their tables."""
    op.create_table(
        "cameras",
        sa.Column("source_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("every_frames", sa.Integer(), nullable=False),
        sa.Column("every_s", sa.Double(), nullable=False),
        sa.Column("frames", BIG, nullable=False),
        sa.Column("lost", BIG, nullable=False),
        sa.Column("breaks", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name="fk_cameras_source_id"),
        sa.PrimaryKeyConstraint("source_id", name="pk_cameras"),
    )
    op.create_table(
        "brokers",
        sa.Column("hook_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("password_name", sa.String(length=64), nullable=False),
        sa.Column("authority_name", sa.String(length=64), nullable=False),
        sa.Column("discovery", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["hook_id"], ["hooks.id"], name="fk_brokers_hook_id"),
        sa.PrimaryKeyConstraint("hook_id", name="pk_brokers"),
    )
