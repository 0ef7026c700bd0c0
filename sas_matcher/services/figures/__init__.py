"""Figures for people: counted by the ledger, told as tables, with nothing small enough to give anybody away."""
