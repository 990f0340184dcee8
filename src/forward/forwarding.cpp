#include "forward/forwarding.hpp"

#include <cerrno>

namespace curvegate::forward {
std::string_view describe(Ending ending) {
    switch (ending) {
        case Ending::orderly: return "end of stream";
        case Ending::tunnel_cut: return "tunnel was cut without an end of stream";
        case Ending::unheard_end:
            return "peer closed before it sent anything: it refused us, or cannot reach its service";
        case Ending::bad_length: return "message has an illegal length";
        case Ending::bad_message: return "message does not open or is out of order";
        case Ending::after_end: return "message after the end of stream";
        case Ending::plain_reset: return "local side reset the connection";
        case Ending::plain_dead: return "local side does not answer";
        case Ending::too_long: return "a record is longer than a message may be (65,503 bytes)";
        case Ending::numbers_used_up: return "message numbers are used up";
        case Ending::idle: return "idle-timeout";
        case Ending::evicted: return "another flow needed its place";
        case Ending::no_answer:
            return "server does not answer: it refused us, has no such service, or is gone";
        case Ending::cannot_ask:
            return "server was to be asked afresh, and our vault or our locked memory failed";
        case Ending::dead_peer: return "peer does not answer";
        case Ending::max_session: return "max-session";
        case Ending::revoked: return "the key may not be used any more";
        case Ending::service_gone: return "a reload removed its service";
        case Ending::port_closed: return "a reload closed its port";
        case Ending::stopped: return "stopped";
    }
    return "unknown";
}

Ending ending_of(tunnel::End end) noexcept {
    switch (end) {
        case tunnel::End::closed: return Ending::orderly;
        case tunnel::End::unheard: return Ending::unheard_end;
        case tunnel::End::cut: break;
        case tunnel::End::bad_message: return Ending::bad_message;
        case tunnel::End::bad_length: return Ending::bad_length;
        case tunnel::End::after_end: return Ending::after_end;
        case tunnel::End::dead_peer: return Ending::dead_peer;
        case tunnel::End::no_answer: return Ending::no_answer;
        case tunnel::End::cannot_ask: return Ending::cannot_ask;
        case tunnel::End::numbers_used_up: return Ending::numbers_used_up;
        case tunnel::End::stopped: return Ending::stopped;
    }
    return Ending::tunnel_cut;
}

// A keepalive that found nobody shows as one of these.
Ending loss_of_plain(int code) noexcept {
    return code == ETIMEDOUT || code == EHOSTUNREACH ? Ending::plain_dead : Ending::plain_reset;
}

}  // namespace curvegate::forward
