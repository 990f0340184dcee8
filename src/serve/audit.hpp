#pragma once

#include "crypto/keys.hpp"

#include <cstddef>
#include <optional>
#include <string_view>

namespace curvegate::serve {

/// Who is decided about, and why. The views live as long as the call.
struct AuditRecord {
    std::string_view service;
    std::string_view peer;                 ///< a name of known_hosts; empty: none is known
    std::optional<crypto::PublicKey> key;  ///< that was proven
    std::string_view source;               ///< as it may be shown
    std::string_view reason;               ///< fixed words of ours
};

/// Writes decisions about sessions down, so that they can be shown later. Any thread; never waits.
class Audit {
  public:
    virtual ~Audit() = default;
    /// A session is about to begin. Returns false if that could not be written, and without it none may
    /// begin.
    [[nodiscard]] virtual bool let_in(const AuditRecord& who) = 0;
    /// No session for these. Not every one has a line of its own: strangers can cause any number.
    virtual void refused(const AuditRecord& who) = 0;
    /// A session was ended, since its key may not be used any more or its service is gone.
    virtual void ended(const AuditRecord& who) = 0;
    /// A server key was dropped as compromised, and that many sessions with it.
    virtual void key_dropped(std::size_t sessions) = 0;
};

/// Where nothing is to be written down.
class NoAudit final : public Audit {
  public:
    [[nodiscard]] bool let_in(const AuditRecord&) override { return true; }
    void refused(const AuditRecord&) override {}
    void ended(const AuditRecord&) override {}
    void key_dropped(std::size_t) override {}
};

/// Our fault: the disk, or the audit file. A server end gives the one refusal that all get; a client end
/// resets the local connection.
enum class AuditErrc {
    unavailable = 1,  ///< audit-required, and the line cannot be written: no session begins
};
[[nodiscard]] constexpr std::string_view layer_name(AuditErrc) {
    return "audit_file";
}
[[nodiscard]] constexpr std::string_view describe(AuditErrc) {
    return "audit_unavailable";
}

}  // namespace curvegate::serve
