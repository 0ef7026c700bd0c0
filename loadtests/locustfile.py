"""The load test for Locust: who takes part, when it begins, what is left of it at the end.

Run by ``python -m loadtests``, which writes the plan (``loadtests.world.Plan``) whose file ``SAS_LOAD_PLAN`` names; or
alone, with such a file: ``locust -f loadtests/locustfile.py --host http://127.0.0.1:8069``. An auditor reads every
event of the keys in use and keeps books (``loadtests.audit``).
"""

import logging
from typing import Any

import gevent
import requests
from locust import events
from locust.env import Environment

from loadtests import people
from loadtests.hosts import refuse_foreign
from loadtests.plan import Plan
from loadtests.world import World

PLAN = Plan.read()
logging.getLogger("locust.stats_logger").disabled = True  # the report says more

# Locust takes whatever classes of people stand here, and draws at random those that have no number
Regulator, Practice = people.Regulator, people.Practice
Regulator.fixed_count = len(PLAN.regulators)
# one group of practices for four territories, and never so few that nothing happens at once
Practice.fixed_count = 24 if not PLAN.territories else max(4, min(24, len(PLAN.territories)))
if PLAN.coordinator:
    Dashboard = people.Dashboard
    Dashboard.fixed_count = 2
if PLAN.coordinator and PLAN.editor:
    EditorWatch = people.EditorWatch
    EditorWatch.fixed_count = 1


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def begin(environment: Environment, **_: Any) -> None:
    """Build the population, open the books, set the policies."""
    refuse_foreign(str(environment.host))
    try:
        made = World(environment, PLAN)
        made.practices_to_come = int(Practice.fixed_count)
        made.set_policies()
    except (OSError, LookupError, gevent.Timeout, requests.RequestException) as failed:
        raise SystemExit(f"Le service ne répond pas comme il faut à {environment.host} : {failed}") from failed
    people.begin_world(made)


@events.test_stop.add_listener  # type: ignore[untyped-decorator]
def close_the_books(environment: Environment, **_: Any) -> None:
    """Let the last events arrive, read everything back, leave what was measured."""
    try:
        here = people.world()
    except RuntimeError:  # it never began, and has said why
        return
    wrong, found = here.close_the_books()
    here.write(wrong, found)
    environment.process_exit_code = 1 if wrong or environment.stats.total.num_failures else 0
