"""An independent peer of CurveCP over plain UDP sockets: packets, messages, and a small reliable stream.

Written from the description of the wire alone and proven against recorded sessions and the living reference
programs (test_udp_nacl.py). Every builder takes overrides, so that a test can send any broken packet.
"""

from __future__ import annotations

from curve_tun import KeyPair, ProtocolError, open_k, seal, seal_k, shared_key  # noqa: F401

from .client import Client  # noqa: F401
from .messages import EOF, FAILURE, Message, message_bytes, own_kind, parse_message, smallest_size  # noqa: F401
from .packets import (  # noqa: F401
    CLIENT_MESSAGE,
    CLIENT_NONCE,
    COOKIE,
    COOKIE_SIZE,
    HELLO,
    HELLO_SIZE,
    INITIATE,
    NO_EXTENSION,
    SERVER_MESSAGE,
    SERVER_NONCE,
    Extensions,
    Hello,
    client_message_packet,
    cookie_packet,
    encode_name,
    hello_packet,
    initiate_packet,
    le64,
    open_client_message,
    open_cookie,
    open_hello,
    open_initiate,
    open_server_message,
    open_vouch,
    server_message_packet,
    vouch,
)
from .port import Address, Port  # noqa: F401
from .server import Conversation, Server, echo_handler  # noqa: F401
from .stream import Stream  # noqa: F401
