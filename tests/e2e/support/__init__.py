"""What the end-to-end tests share: files, daemons, logs, local servers and clients. Every wait has a bound."""

from __future__ import annotations

from .basics import PATIENCE, ROOT, SHORT, binary, curvegate, need_root, need_tool, run, scale, skip_loudly, until  # noqa: F401
from .daemons import SANITIZER, Daemon  # noqa: F401
from .ends import (  # noqa: F401
    ClientEnd,
    ServerEnd,
    Tunnel,
    UdpServerEnd,
    UdpTunnel,
    client_end,
    server_end,
    udp_client_end,
    udp_server_end,
)
from .keys import Key, b64, keygen  # noqa: F401
from .logs import Event, Log, Pace  # noqa: F401
from .plain_sides import (  # noqa: F401
    Backend,
    Handler,
    Local,
    Record,
    echo,
    echo_if_asked,
    hold,
    is_readable,
    push_until_stuck,
    sink,
    source,
)
from .ports import free_port  # noqa: F401
from .processes import (  # noqa: F401
    AS_NOBODY,
    Process,
    alive,
    cpu_seconds,
    descendants,
    give_to_nobody,
    is_sanitized,
    processes,
    set_descriptors,
    status_kib,
)
from .relays import Relay, UdpRelay  # noqa: F401
from .sites import Site, options  # noqa: F401
