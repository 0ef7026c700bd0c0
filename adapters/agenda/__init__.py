"""Ways into an agenda without keeping it twice: a CSV file, a calendar, a manifest of places.

Each reader is pure: bytes in, hours of single days and what is wrong line by line out (``domain.agenda.Import``).
"""
