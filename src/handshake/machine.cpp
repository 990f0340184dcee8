#include "handshake/machine.hpp"

namespace curvegate::handshake::closing {

Error reason(const event::PacketRefused& refused) {
    return refused.why;
}
Error reason(const event::CookieRefused& refused) {
    return local_fault(refused.why);
}
Error reason(const event::NotPossible& lack) {
    return local_fault(lack.why);
}
Error reason(const event::VaultRefused& refused) {
    return meaning_of(refused.status);
}
Error reason(const event::VaultLost& lost) {
    return {Errc::vault_unavailable, lost.why};
}
Error reason(const event::NotAuthorised& refused) {
    return {Errc::not_authorised, refused.why};
}

}  // namespace curvegate::handshake::closing
