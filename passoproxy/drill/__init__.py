"""`passoproxy drill`: failures rehearsed with the user's own margins, against the sandbox, in compressed time.

It never touches the real pair, state, origin or people: the rehearsed daemons have a folder, a provider and an origin of their own.
"""

from passoproxy.drill.runner import Seen, Verdict, rehearse
from passoproxy.drill.scenarios import TRIALS, Trial

__all__ = ["TRIALS", "Seen", "Trial", "Verdict", "rehearse"]
