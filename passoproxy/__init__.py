"""passoproxy: a local daemon that holds one OAuth service account, keeps it alive and caches what it answers."""

__version__ = "0.1.0"
