#pragma once

#include "config/config.hpp"
#include "os/activation.hpp"

#include <string>
#include <vector>

namespace curvegate::daemon::parent {

/// The sockets that the service manager passed, for `accept = systemd:NAME`. They cannot be opened anew, so
/// they stay here as long as the parent lives, whatever a reload closes.
class PassedSockets {
  public:
    PassedSockets() = default;
    explicit PassedSockets(std::vector<os::PassedSocket> sockets) : sockets_(std::move(sockets)) {}

    /// Copies for the door of a service whose `accept` names passed sockets. Streams: one of each socket for
    /// each worker, who accept from one queue; in such an order that worker i has those at i, i + workers...
    /// . Datagrams: one, for the first worker, so that all of a source come to one place. Error: os system,
    /// with what to do (no socket of that name, or one that does not fit).
    [[nodiscard]] Result<std::vector<os::UniqueFd>> copies_for(const config::Service& service,
                                                               std::size_t workers) const;
    /// Names that no service asks for, each once.
    [[nodiscard]] std::vector<std::string> unused(const config::Config& config) const;
    void clear() { sockets_.clear(); }

  private:
    std::vector<os::PassedSocket> sockets_;
};

}  // namespace curvegate::daemon::parent
