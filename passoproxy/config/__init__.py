"""The configuration: read with the place of every value, checked whole, and given as one frozen tree. Only compose and the commands import it."""
