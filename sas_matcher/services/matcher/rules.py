"""What a territory has set, as the matcher needs it: terms, policy of each tier, length of a hold."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sas_matcher.domain.policy import DEFAULT_HOLD_S, DEFAULT_SETTING, MOST_KM, WEIGHED, effective
from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching.candidates import OpenRequest
from sas_matcher.matching.commitment import PRESETS, Commitment, mixed
from sas_matcher.matching.terms import Terms


class Rules:
    """The rules of all territories.

    Args:
        terms: what no territory changes.
        policy: of the territories that have set nothing.
    """

    def __init__(self, terms: Terms | None = None, policy: str = "firm") -> None:
        self._common = terms or Terms(exclusive_times=True)
        self._default = dict.fromkeys(Tier, effective(policy, crisis_allowed=True, crisis=False))
        self._terms: dict[str, Terms] = {}
        self._policies: dict[str, dict[Tier, str]] = {}
        self._hold: dict[str, int] = {}
        self._measures: dict[str, dict[str, Any]] = {}

    def load(self, settings: Mapping[str, Mapping[str, Any]]) -> set[str]:
        """Take in the settings of the ledger; returns the territories whose terms are others now."""
        before = dict(self._terms)
        for territory, setting in settings.items():
            self._terms[territory] = replace(
                self._common,
                mt_first=setting["mt_rule"] == "first",
                ageing_per_h=setting["ageing_pct_per_h"] / 100,
                fair_load_min=setting["fair_load_min"],
                radius_factor=setting["radius_pct"] / 100,
                urgent_reserve_pct=setting["urgent_reserve_pct"],
                tele_bonus_min=setting["tele_bonus_min"],
                borrow=dict(setting["borrow"]),
                borrow_km=setting["borrow_km"],
            )
            self._hold[territory] = setting["hold_seconds"]
            self._measures[territory] = {
                name: setting[name] for name in WEIGHED if setting[name] != DEFAULT_SETTING[name]
            }
            self._policies[territory] = {
                tier: effective(setting["policy"][tier], setting["crisis_allowed"], setting["crisis"]) for tier in Tier
            }
        return {name for name, terms in self._terms.items() if terms != before.get(name, self._common)}

    def measures(self, territory: str) -> Mapping[str, Any]:
        """What a territory has set of ``WEIGHED``, where it is not the default."""
        return self._measures.get(territory, {})

    @property
    def reserves(self) -> dict[str, int]:
        """By territory, the percent of its places that are kept for urgent requests."""
        return {name: terms.urgent_reserve_pct for name, terms in self._terms.items()}

    def terms(self, territory: str) -> Terms:
        """The terms of a territory's matches."""
        return self._terms.get(territory, self._common)

    def reaching(self, request: OpenRequest) -> OpenRequest:
        """Return a request with the radius that its territory gives it now."""
        asked = request.radius_km if request.asked_km is None else request.asked_km
        reach = max(asked, min(MOST_KM, asked * self.terms(request.territory).radius_factor))
        return request if reach == request.radius_km else replace(request, radius_km=reach, asked_km=asked)

    def hold_seconds(self, territory: str) -> int:
        """How long a seat is held for a regulator."""
        return self._hold.get(territory, DEFAULT_HOLD_S)

    def policies(self, territory: str) -> Mapping[Tier, str]:
        """The policy of each tier, with ``auto`` already made what it means now."""
        return self._policies.get(territory, self._default)

    def only_firm(self, territory: str) -> bool:
        """Whether nothing is promised there."""
        return set(self.policies(territory).values()) == {"firm"}

    def of_desk(self, territory: str) -> Commitment | None:
        """How a desk of the territory commits; None where its policy, one of the peers, needs none."""
        names = self.policies(territory)
        return mixed(names) if set(names.values()) <= set(PRESETS) else None
