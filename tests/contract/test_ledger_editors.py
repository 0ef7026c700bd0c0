"""Places of editors that we poll, in the ledger: what an editor tells of a booking, beside its older answers."""

from adapters.postgres.editors import PostgresEditors
from adapters.postgres.ledger import PostgresLedger
from tests.contract.conftest import postgres_only
from tests.ledger_cases import NOW, Desk, minutes, new_id, slot_row

pytestmark = postgres_only
EDITOR = "fhir:agenda"


async def test_an_answer_from_before_a_booking_there_does_not_open_its_place_again(desk: Desk) -> None:
    """The poll asked at 8:01, the editor told of the booking at 8:02, and only then the poll's answer is merged."""
    assert isinstance(desk.ledger, PostgresLedger)
    row = slot_row("a", professional="81")
    await desk.publish(row, source=EDITOR)
    told = ("https://agenda.example", "rdv-1", "booked", "81", row["starts"], row["ends"])
    done = await PostgresEditors(desk.ledger).take_appointment(NOW + minutes(2), [EDITOR], new_id(), told)
    assert done["outcome"] == "created"
    late = {**row, "valid_at": NOW + minutes(1)}
    assert await desk.verdict(late, NOW + minutes(3), EDITOR) == "stale"
    assert [slot["status"] for slot in await desk.slots()] == ["withdrawn"]
    # asked after it, it may be free again
    assert await desk.verdict({**row, "valid_at": NOW + minutes(4)}, NOW + minutes(4), EDITOR) == "updated"
