"""The live core: slots, requests, bookings, outbox, leases, and the functions that change them."""

from importlib.resources import files

from alembic import op

from adapters.postgres.migrate import run_script

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the scripts of ``sql/0001`` in order."""
    folder = files("adapters.postgres").joinpath("migrations/sql/0001")
    for script in sorted(folder.iterdir(), key=lambda entry: entry.name):
        run_script(op.get_bind(), script.read_text(encoding="utf-8"))


def downgrade() -> None:
    """Refuse: acknowledged bookings are never dropped."""
    raise RuntimeError("the ledger has no way back: restore a backup instead")
