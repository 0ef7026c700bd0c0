"""The one place that wires adapters to services: a module a process, and one for each thing that several open."""
