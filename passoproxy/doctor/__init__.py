"""Tries every step between the configuration and an answer, one check after the other, and says what to do for each that fails."""

from passoproxy.doctor.checks import Finding, Verdict, Visit, examined

__all__ = ["Finding", "Verdict", "Visit", "examined"]
