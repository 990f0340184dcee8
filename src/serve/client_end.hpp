#pragma once

#include "io/cancellation.hpp"
#include "serve/sessions.hpp"
#include "serve/try_targets.hpp"

#include <map>
#include <unordered_map>

namespace curvegate::serve {

/// The client ends of a worker's services: plain in, tunnel out. It dials a server for each local connection
/// and each flow of datagrams. One thread.
class ClientEnd {
  public:
    explicit ClientEnd(Sessions& sessions) : sessions_(sessions) {}

    /// Somebody has connected to the plain side of that service.
    void accept(SpecPtr spec, io::Stream stream, std::string source);
    /// Datagrams come from a source that has no flow. See forward::Flows::DialFn.
    void open_flow(const SpecPtr& service, const std::string& source, const io::CancellationPtr& cancellation,
                   forward::Flows::DialedFn done);
    /// A flow that had its tunnel is over.
    void flow_ended(const ServiceSpec& spec, const forward::Flows::Who& who,
                    const forward::ForwarderSummary& summary);

  private:
    using Tries = TargetTries<std::unique_ptr<tunnel::Tunnel>>;

    void open_tunnel(const std::shared_ptr<Connection>& connection, io::Stream plain);
    void not_connected(const std::shared_ptr<Connection>& connection, io::Stream plain, const Error& why);
    void dial_server(const SpecPtr& spec, const std::string& source, const io::CancellationPtr& cancellation,
                     Tries::DoneFn done);
    [[nodiscard]] tunnel::Opener& opener_of(const tunnel::Wire& wire);
    [[nodiscard]] std::vector<crypto::PublicKey> keys_to_try(const ServiceSpec& spec,
                                                             const ServiceTarget& target) const;
    void audit_failure(const ServiceSpec& spec, const ServiceTarget& target, const std::string& source,
                       const Error& why);
    [[nodiscard]] Result<> may_greet(const ServiceSpec& spec, const ServiceTarget& target,
                                     const crypto::PublicKey& server, const std::string& source);
    void greeted(const ServiceSpec& spec, const ServiceTarget& target, const crypto::PublicKey& server);
    void not_greeted(const ServiceSpec& spec, const Error& why);

    Sessions& sessions_;
    std::map<const tunnel::Wire*, std::unique_ptr<tunnel::Opener>> openers_;  // of the wires that were used
    std::unordered_map<std::string, crypto::PublicKey>
        last_good_;  // which of a peer's keys answered, by service and target
};

}  // namespace curvegate::serve
