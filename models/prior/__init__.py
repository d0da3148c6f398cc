"""Priors of component types for the agent: fitted on many healthy assets of a class."""
