"""The terms that a day log sets, as the service's own."""

from sas_matcher.domain.errors import InvalidInputError
from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching.terms import Terms, TierTerms
from sas_matcher.replay.daylog import Meta


def terms_of(meta: Meta) -> tuple[Terms, dict[str, Tier]]:
    """Return the terms that a day log's first line sets, and the service's tier for each of its own.

    Tiers that bear the service's names are those; others are taken by urgency, which is how long they may wait.

    Raises:
        InvalidInputError: There are more tiers than the service has.
    """
    names = {item.tier for item in meta.tiers}
    known = {str(tier): tier for tier in Tier}
    if not names <= set(known):
        if len(names) > len(Tier):
            raise InvalidInputError(f"le journal a {len(names)} niveaux d'urgence, le service en connaît {len(Tier)}")
        ordered = sorted(meta.tiers, key=lambda item: (item.max_delay_min, -item.value))
        known = {item.tier: tier for item, tier in zip(ordered, Tier, strict=False)}
    tiers = {known[item.tier]: TierTerms(round(item.value), item.wait_weight) for item in meta.tiers}
    return Terms(meta.base_min, meta.min_per_km, meta.mt_bonus_min, mt_first=False, tiers=tiers), known
