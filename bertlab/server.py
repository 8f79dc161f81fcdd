"""What `bertlab lab` adds to Jupyter's server: the kernel's answers leave at once.

A control's answer is a few small messages. Jupyter Server leaves Nagle's algorithm on for its WebSockets, so all but the
first message wait until the browser has acknowledged it, which a browser may put off for 40 ms (RFC 896, RFC 1122 section
4.2.3.2). `tests/runs/panel_speed.py` measures what that costs.
"""

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection


class PromptConnection(ZMQChannelsWebsocketConnection):
    """The connection between a page and its kernel, with TCP_NODELAY set."""

    def connect(self):
        self.websocket_handler.set_nodelay(True)
        return super().connect()
