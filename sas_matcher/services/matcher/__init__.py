"""The matcher of one process, for many territories.

``match`` runs it. ``known`` is its memory, a hint; ``holding`` says which territories are decided here, and with which
desks; ``following`` keeps memory in step with the streams; ``rounds`` decides batches and commits them.
"""
