#pragma once

#include "base/time.hpp"

/// What a connected socket of a session is told before it carries anything.
namespace curvegate::io {

/// Small segments at once, and a probe of a silent peer so that it counts as dead after `dead_peer`.
void set_tunnel_options(int socket, Duration dead_peer);
/// Small segments at once; a probe of a silent machine, as above; an urgent byte stays where it is in the
/// stream; and from here on whatever closes the socket resets the connection, the death of this process too,
/// so that a cut is never taken for an end. An orderly end calls allow_orderly_close().
void set_plain_options(int socket, Duration dead_peer);
void allow_orderly_close(int socket);
/// Whatever closes the socket from here on resets the connection.
void reset_when_closed(int socket);

}  // namespace curvegate::io
