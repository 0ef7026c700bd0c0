"""Which place for which request: eligibility, costs, batches, explanations. No I/O, no clock."""
