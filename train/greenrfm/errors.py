"""The one exception a user may meet: a sentence, never a traceback."""

from __future__ import annotations


class UserError(Exception):
    """A mistake the user can mend.

    The message is one sentence that names the file, what is wrong with it and what to do. It never
    quotes report text, patient names or keys. The command line prints it on stderr and exits with 1.
    """
