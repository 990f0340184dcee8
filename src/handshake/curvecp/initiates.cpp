#include "handshake/curvecp/initiates.hpp"

namespace curvegate::handshake::curvecp {

void InitiateSchedule::begin(Instant now) noexcept {
    left_ = kAtOnce;
    next_ = now + kAgain;
}

// PROTOCOL 7.5: our address may have changed since the Hello. What has left may have been received: it is not
// told twice.
bool InitiateSchedule::starts_afresh(Told told) noexcept {
    if (told == Told::something) return false;
    left_ = 0;
    next_.reset();
    return true;
}

void InitiateSchedule::on_deadline(Instant now) noexcept {
    if (!next_ || now < *next_) return;
    left_ = 1;
    next_ = now + kAgain;
}

}  // namespace curvegate::handshake::curvecp
