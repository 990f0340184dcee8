#pragma once

/// How a tunnel ended before both directions had told their end: one list for all wires and all that they
/// carry.
namespace curvegate::tunnel {

/// Response: the tunnel is gone. A plain stream gets what came before, and then its end after `closed` and a
/// reset after all others; session_close says which it was.
enum class End {
    closed,       ///< the peer ended both directions in order, as its wire does; of messages: it is gone
    unheard,      ///< the same before the peer had sent anything or been told our end: it may have refused us
    cut,          ///< without an end of stream: a truncation
    bad_message,  ///< the peer sent what does not open or is out of order, or acknowledged what never was
    bad_length,   ///< the peer sent a length that no message may have
    after_end,    ///< the peer sent a message after its end of stream
    dead_peer,    ///< the peer acknowledges nothing
    no_answer,    ///< client: the server answered no Initiate: it refused us, or is gone
    cannot_ask,   ///< client: it answered none, and our vault or our memory failed when it was asked afresh
    numbers_used_up,  ///< nobody's fault: the last message number has gone out or come in
    stopped,          ///< our side ended it
};

}  // namespace curvegate::tunnel
