"""Agendas that practices keep here: their document, what it means day by day, and its publication."""
