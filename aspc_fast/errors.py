"""The one exception that means "the user can mend this": shown as a single sentence, exit code 2."""


class UserError(Exception):
    """A mistake of the user's: the message names the file, field and value, and what to do. Never a traceback."""
