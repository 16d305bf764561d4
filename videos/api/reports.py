"""Django's pages and mails about an error, without passwords: its own filter goes by the names of settings."""

import re
from typing import Final

from django.utils.safestring import SafeString
from django.views.debug import ExceptionReporter

HIDDEN: Final = "********"
# What stands before the host of a URL. A name without a password is hidden too: it may be the password.
_USER_INFO: Final = re.compile(r"(?<=://)[^\s/@'\"<>]+@")
_ITEM: Final = re.compile(  # of a dictionary, as Python and as HTML
    r"((['\"]|&#x27;|&quot;)(?:password|passwd|PASSWORD)\2: )(['\"]|&#x27;|&quot;)(?:(?!\3).)*\3"
)


def without_passwords(text: str) -> str:
    """A text without the user and the password of URLs, and without passwords in dictionaries."""
    return _ITEM.sub(rf"\1'{HIDDEN}'", _USER_INFO.sub(f"{HIDDEN}@", text))


class Reporter(ExceptionReporter):
    """Hides passwords wherever they stand: in settings, the environment, local variables, the message."""

    def get_traceback_html(self) -> SafeString:
        """The debug page, and the page in a mail."""
        # It is as safe as before: nothing is added but asterisks.
        return SafeString(without_passwords(super().get_traceback_html()))  # nosec B703

    def get_traceback_text(self) -> SafeString:
        """The same as plain text."""
        return SafeString(without_passwords(super().get_traceback_text()))  # nosec B703
