"""Images that pass, but are odd enough for a person to look at them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add who is doubtful, which nobody was so far, and an index of those that are."""
    op.add_column("products", sa.Column("doubt_rate", sa.Double(), nullable=False, server_default="0"))
    op.add_column("decisions", sa.Column("is_doubtful", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index(
        "ix_decisions_doubtful",
        "decisions",
        ["product_id"],
        sqlite_where=sa.text("is_doubtful IS 1"),
        postgresql_where=sa.text("is_doubtful IS true"),
    )
