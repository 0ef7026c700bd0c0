"""What taking part gives back to a practice."""

from dataclasses import dataclass

from sas_matcher.client._documents import Json


@dataclass(frozen=True, slots=True)
class StatementWeek:
    """One professional or structure (``kind``, ``id``) in one ISO week.

    Attributes:
        two_hours: At least two hours were offered (rule of the forfait).
        not_own: Patients seen who are not this professional's own; ``unknown``: of whom it is not known.
        supplements: Acts paid here that meet the four facts of the supplement; ``to_check``: all but the unknown one.
    """

    kind: str
    id: str
    name: str | None
    week: str
    hours_offered: float
    hours_filled: float
    two_hours: bool
    patients: int
    not_own: int
    unknown: int
    supplements: int
    to_check: int
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "StatementWeek":
        """Read a document."""
        return cls(
            document["kind"],
            document["id"],
            document["name"],
            document["week"],
            document["hours_offered"],
            document["hours_filled"],
            document["two_hours"],
            document["patients"],
            document["not_own"],
            document["unknown"],
            document["supplements"],
            document["to_check"],
            document,
        )


@dataclass(frozen=True, slots=True)
class Statement:
    """Weeks, and acts as documents (``by_sas``, ``not_own_patient``, ``within_48h``, ``outside_pdsa``, …)."""

    weeks: tuple[StatementWeek, ...]
    acts: tuple[Json, ...]
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "Statement":
        """Read a document."""
        return cls(tuple(map(StatementWeek.of, document["weeks"])), tuple(document["acts"]), document)
