"""Drift, recalibration, shadow models, runs, retention; and tallies, which pages count with."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def added() -> dict[str, tuple[sa.Column[Any], ...]]:
    """The columns that tables get."""
    return {
        "products": (
            sa.Column("stops_when_withdrawn", sa.Boolean(), nullable=False, server_default=sa.false()),
            sa.Column("smallest_change", sa.Double(), nullable=False, server_default="0"),
            sa.Column("shadow_model_id", sa.Integer(), nullable=True),
        ),
        "models": (sa.Column("origin", sa.Text(), nullable=False, server_default=""),),
        "images": (sa.Column("removed_at", sa.String(length=32), nullable=True),),
        "decisions": (sa.Column("photo_values", sa.Text(), nullable=False, server_default="{}"),),
    }


def upgrade() -> None:
    """Add columns and tables, and count what was decided."""
    for table, columns in added().items():
        for column in columns:
            op.add_column(table, column)
    _add_tables()
    op.execute(
        "INSERT INTO tallies (product_id, hour, verdict, images) "
        "SELECT product_id, substr(decided_at, 1, 13), verdict, count(*) FROM decisions "
        "GROUP BY product_id, substr(decided_at, 1, 13), verdict"
    )


def _add_tables() -> None:
    op.create_table(
        "tallies",
        sa.Column("product_id", sa.Integer(), nullable=False),
        sa.Column("hour", sa.String(length=13), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("images", BIG, nullable=False),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_tallies_product_id"),
        sa.PrimaryKeyConstraint("product_id", "hour", "verdict", name="pk_tallies"),
    )
    op.create_table(
        "watches",
        sa.Column("product_id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("last_decision_id", BIG, nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("trouble", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_watches_product_id"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_watches_model_id"),
        sa.PrimaryKeyConstraint("product_id", "model_id", name="pk_watches"),
    )
    op.create_table(
        "alarms",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("product_id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("stream", sa.String(length=32), nullable=False),
        sa.Column("usual", sa.Double(), nullable=False),
        sa.Column("found", sa.Double(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("image", sa.String(length=1024), nullable=False),
        sa.Column("raised_at", sa.String(length=32), nullable=False),
        sa.Column("trail_seq", BIG, nullable=False),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_alarms_product_id"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_alarms_model_id"),
        sa.ForeignKeyConstraint(["trail_seq"], ["trail.seq"], name="fk_alarms_trail_seq"),
        sa.PrimaryKeyConstraint("id", name="pk_alarms"),
    )
    op.create_index("ix_alarms_product_id_raised_at", "alarms", ["product_id", "raised_at"])
    op.create_table(
        "shadows",
        sa.Column("image_id", BIG, autoincrement=False, nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_shadows_image_id"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_shadows_model_id"),
        sa.PrimaryKeyConstraint("image_id", "model_id", name="pk_shadows"),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("product_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("asked", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("is_cancelled", sa.Boolean(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("ended_at", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_runs_product_id"),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
