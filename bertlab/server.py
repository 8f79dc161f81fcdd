"""What `bertlab lab` adds to Jupyter's server: nobody gets in without a key, and the kernel's answers leave at once."""

import sys

from jupyter_server.auth.identity import PasswordIdentityProvider
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

OPEN_DOOR = """\
bertlab: this lab would ask for neither a token nor a password, and who reaches it runs any code as you: leave out the empty token, and \
each start makes a new one. It is set to nothing by an option such as --IdentityProvider.token, by JUPYTER_TOKEN_FILE or in a file that \
`jupyter --paths` lists under config."""


class TokenOrPassword(PasswordIdentityProvider):
    """Jupyter's own tokens and passwords; with neither, the server does not start, on whatever address.

    Asked after Jupyter has read its options, environment and configuration files, so it does not matter which of them it was.
    """

    def validate_security(self, app, ssl_options=None) -> None:
        super().validate_security(app, ssl_options)
        if not self.auth_enabled:
            print(OPEN_DOOR, file=sys.stderr)
            sys.exit(2)


class PromptConnection(ZMQChannelsWebsocketConnection):
    """The connection between a page and its kernel, with TCP_NODELAY set.

    A control's answer is a few small messages. Jupyter Server leaves Nagle's algorithm on for its WebSockets, so all but the
    first message wait until the browser has acknowledged it, which a browser may put off for 40 ms (RFC 896, RFC 1122 section
    4.2.3.2). `tests/runs/panel_speed.py` measures what that costs.
    """

    def connect(self):
        self.websocket_handler.set_nodelay(True)
        return super().connect()
