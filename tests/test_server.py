"""The server that `bertlab lab` starts sends the kernel's answers at once: looked up on the socket itself."""

import asyncio
import socket

import tornado.httpserver
import tornado.netutil
import tornado.web
import tornado.websocket
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

from bertlab.cli import lab_command
from bertlab.server import PromptConnection


def test_the_lab_uses_it():
    assert "--ServerApp.kernel_websocket_connection_class=bertlab.server.PromptConnection" in lab_command("/course")


def test_a_page_gets_its_messages_without_delay(monkeypatch):
    monkeypatch.setattr(ZMQChannelsWebsocketConnection, "__init__", lambda self, **kwargs: None)
    monkeypatch.setattr(ZMQChannelsWebsocketConnection, "websocket_handler", None)
    monkeypatch.setattr(ZMQChannelsWebsocketConnection, "connect", lambda self: "connected")
    seen = {}

    class Handler(tornado.websocket.WebSocketHandler):
        def open(self):
            def no_delay():
                return bool(self.ws_connection.stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

            seen["before"] = no_delay()
            connection = PromptConnection()
            connection.websocket_handler = self
            seen["answer"] = connection.connect()
            seen["after"] = no_delay()
            self.close()

    async def talk():
        server = tornado.httpserver.HTTPServer(tornado.web.Application([("/", Handler)]))
        (listening,) = tornado.netutil.bind_sockets(0, "127.0.0.1")
        server.add_sockets([listening])
        page = await tornado.websocket.websocket_connect(f"ws://127.0.0.1:{listening.getsockname()[1]}/")
        assert await page.read_message() is None  # closed
        server.stop()

    asyncio.run(talk())
    assert seen == {"before": False, "answer": "connected", "after": True}
