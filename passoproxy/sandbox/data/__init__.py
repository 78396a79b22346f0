"""Invented facts and texts about travelling; pure values and functions, nothing of HTTP."""
