"""What the outside must offer to the services: the ledger (truth), the bus and mirror (speed), a clock, and the rest.

One module a concept. The in-memory twins that replay needs implement these same protocols.
"""
