"""The form of a server's id, wherever one is read (PROTOCOL 1). Performs no I/O."""

from __future__ import annotations

import re

SERVER_ID_FORM = "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
SERVER_ID = re.compile(SERVER_ID_FORM)
SERVER_ID_BYTES = re.compile(SERVER_ID_FORM.encode())
