"""Editors of agendas that are polled: how often, what becomes of their answers, and how they do."""
