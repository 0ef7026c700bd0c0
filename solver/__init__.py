"""Exact assignment of requests to places: a problem in, a plan out, and a certificate of what it is worth.

Pure functions on numpy arrays: no clock, no randomness, no input or output, nothing of the rest of the
project. The same problem, in any order of its rows, gives the same plan. ``solver.limited`` is imported by its
own name: CP-SAT takes 1 s and 50 MB to load, which only whoever has packing rows should pay.
"""

from solver.candidates import spread_selection
from solver.flow import solve, solve_flow, solve_single
from solver.greedy import solve_greedy
from solver.limits import Limits, overlap_cliques
from solver.problem import (
    CostRangeError,
    EngineError,
    NotOptimalError,
    Plan,
    PlanError,
    Problem,
    ProblemError,
    SolverError,
)
from solver.verify import (
    Certificate,
    OmittedArcs,
    Pricing,
    bound,
    certify,
    check,
    request_utilities,
    slot_prices,
)
from solver.verify_limits import check_limits, limit_bound, limit_prices, prices_around

__all__ = [
    "Certificate",
    "CostRangeError",
    "EngineError",
    "Limits",
    "NotOptimalError",
    "OmittedArcs",
    "Plan",
    "PlanError",
    "Pricing",
    "Problem",
    "ProblemError",
    "SolverError",
    "bound",
    "certify",
    "check",
    "check_limits",
    "limit_bound",
    "limit_prices",
    "overlap_cliques",
    "prices_around",
    "request_utilities",
    "slot_prices",
    "solve",
    "solve_flow",
    "solve_greedy",
    "solve_single",
    "spread_selection",
]
