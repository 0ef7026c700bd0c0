"""Demonstration on invented people and places; nothing in here exists."""
