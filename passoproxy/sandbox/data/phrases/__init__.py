"""The sentences that texts are made of, one module a language; all have the same keys and the same fields in braces."""
